"""Ray Serve deployments, the REST API and the Gradio application."""
