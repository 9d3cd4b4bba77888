# The page and its engine, for `docker build` with one argument:
#   DEVICE=cpu     torch for processors (the default); TORCH_INDEX=ADDRESS takes PyTorch's small
#                  builds for them, from the address that its "Get started" page gives
#   DEVICE=cuda    torch for NVIDIA GPUs, and int8 and nf4
#   DEVICE=remote  no torch: the page in front of another engine (--engine URL)
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS installed
ARG DEVICE=cpu
ARG TORCH_INDEX=
WORKDIR /build
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
COPY requirements.txt requirements-gpu.txt ./
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# The requirements alone decide this layer, so an edit of the program does not install again.
RUN --mount=type=cache,target=/root/.cache/pip \
    case "$DEVICE" in \
        cpu) pip install ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} \
            -r requirements.txt ;; \
        cuda) grep '^bitsandbytes' requirements-gpu.txt > quantizers.txt \
            && pip install -r requirements.txt -r quantizers.txt ;; \
        remote) grep -vE '^(torch|transformers|accelerate)==' requirements.txt > light.txt \
            && pip install -r light.txt ;; \
        *) echo "DEVICE is cpu, cuda or remote, not $DEVICE" >&2; exit 1 ;; \
    esac

FROM python:${PYTHON}
RUN useradd --create-home --uid 1000 chat \
    && install --directory --owner=chat /cache
COPY --from=installed /opt/venv /opt/venv
WORKDIR /app
COPY LICENSE app.py ./
COPY assets assets
COPY terminal terminal
COPY ui ui
COPY door door
COPY backend backend
# /cache keeps what the hub sends: mount a volume there.
ENV PATH=/opt/venv/bin:$PATH HF_HOME=/cache PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
VOLUME /cache
USER 1000
EXPOSE 7860
# Ready is more than alive: the model is loaded, or the engine behind the page answers.
HEALTHCHECK --interval=10s --timeout=5s --start-period=1h --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:7860/ready', timeout=4)"]
ENTRYPOINT ["python", "app.py"]
CMD ["--host", "0.0.0.0", "--model", "auto"]
