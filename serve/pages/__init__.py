"""The front end: pages in Gradio over a gateway. ``application`` puts them together; nothing else imports them."""
