# One SGLang worker on an NVIDIA GPU: docker run --gpus 1 --volume models:/models museway-worker-gpu
# MUSEWAY_ENGINE_MODEL names a directory with weights, mounted, never built in. Not built or run by this repository's
# tests: they have no GPU.
# Build from the repository's root: docker build --file infra/docker/worker-gpu.Dockerfile --tag museway-worker-gpu .
FROM nvidia/cuda:13.0.1-devel-ubuntu24.04
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-dev python3-venv gcc g++ libnuma1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/museway --create-home museway \
    && install --directory --owner museway /var/cache/museway /opt/museway
WORKDIR /src
COPY pyproject.toml README.md ./
COPY sdk sdk
COPY platform platform
COPY engine engine
COPY billing billing
USER 10001
ENV PATH=/opt/museway/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MUSEWAY_CACHE=/var/cache/museway \
    MUSEWAY_DATA_DIR=/var/lib/museway \
    MUSEWAY_ENGINE_MODEL=/models/muse
RUN python3 -m venv /opt/museway \
    && /opt/museway/bin/pip install --no-cache-dir ./sdk . \
    && museway engine install --device gpu --no-model
VOLUME /models
EXPOSE 30000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=600s \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:30000/v1/models', timeout=4)"]
ENTRYPOINT ["museway"]
CMD ["worker", "--host", "0.0.0.0", "--port", "30000"]
