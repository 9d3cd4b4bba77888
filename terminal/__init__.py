"""The command line: what the words mean, a chat without a page, and the page's place in a shell.

It speaks to engines through `backend.engine` and never makes one: `app.py` hands it over.
"""
