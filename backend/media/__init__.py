"""Files become what the model sees: images cut in tiles, videos sampled in frames.

`reader.MediaReader` is the way in. Images are decoded here, videos in a child process that can be
killed. Knows PIL, numpy and PyAV; no prompts, no tokens, no torch.
"""
