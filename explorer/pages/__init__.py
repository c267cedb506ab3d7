"""The pages: widgets in, a view out. Only this folder, the player and the entry point know Streamlit."""
