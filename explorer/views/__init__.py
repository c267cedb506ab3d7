"""What the pages show: analysis composed into Films for one run. Views know neither Streamlit nor the task."""
