"""What the model reads: a conversation as token ids, its cost, and boxes in what comes back."""
