import js from "@eslint/js";
import globals from "globals";

export default [
  { ignores: ["explorer/film/js/vendor/"] },
  js.configs.recommended,
  {
    files: ["explorer/**/*.js", "tests/js/**/*.js"],
    languageOptions: {
      ecmaVersion: 2022,
      globals: { ...globals.browser, PALETTE: "readonly", GLOSSARY: "readonly", KINDS: "readonly" },
    },
    rules: {
      eqeqeq: "error",
      "max-lines": ["error", 400],
      "no-unused-vars": ["error", { argsIgnorePattern: "^_" }],
      "no-var": "error",
      "prefer-const": "error",
    },
  },
];
