"""The pages of the app. Only this folder, the player and the entry point import Streamlit."""
