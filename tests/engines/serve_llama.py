"""llama.cpp's own HTTP server, out of the wheel xllamacpp.

`python serve_llama.py PORT MODEL.gguf MMPROJ.gguf NAME CONTEXT SLOTS` prints a line once it
listens; each of the slots has a context of its own.
"""

import signal
import sys

import xllamacpp

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'}}"
    "{{ message['content'] }}{{'<|im_end|>\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{'<|im_start|>assistant\n' }}{% endif %}"
)


def main(port: str, model: str, projector: str, name: str, context: str, slots: str) -> None:
    wanted = xllamacpp.CommonParams()
    wanted.model.path, wanted.mmproj.path = model, projector
    wanted.mmproj_use_gpu = False
    wanted.hostnames, wanted.port = ["127.0.0.1"], int(port)
    wanted.model_alias = {name}
    wanted.n_parallel = int(slots)
    wanted.n_ctx = int(context) * int(slots)
    # One thread: with two beside another busy process, threads that spin make it 100 times slower.
    wanted.cpuparams.n_threads = wanted.cpuparams_batch.n_threads = 1
    wanted.endpoint_metrics = wanted.endpoint_slots = wanted.offline = True
    wanted.ui = wanted.warmup = False
    wanted.use_jinja, wanted.chat_template = True, CHATML
    server = xllamacpp.Server(wanted)
    print("listening on", server.listening_address, flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main(*sys.argv[1:])
