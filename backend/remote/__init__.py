"""The engine elsewhere: the same verb, spoken to servers with OpenAI's chat interface.

LMDeploy, vLLM, SGLang, llama.cpp, `transformers serve` or any other, one or many. Nothing of
torch is imported here; files are cut here, so that every engine sees the same pixels.
"""
