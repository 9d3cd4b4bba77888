"""What a checkpoint says of itself: its facts, its tokenizer, and where its folder is.

Opens configuration files only. Weights are the business of `backend.local`.
"""
