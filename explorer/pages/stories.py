"""The page Stories."""

import streamlit as st


def page() -> None:
    st.title("Stories")
