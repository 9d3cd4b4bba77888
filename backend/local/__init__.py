"""The engine in this process: a worker thread that owns the model, and a fair line before it.

`engine.LocalEngine` is what others use. Importing it does not import torch: only the worker
does, in its own thread, so that the page is up while torch is still loading.
"""
