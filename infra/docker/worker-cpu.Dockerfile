# One SGLang worker on a CPU, with the engine's environment and the small model built in: for trying out and for tests.
# Build from the repository's root: docker build --file infra/docker/worker-cpu.Dockerfile --tag museway-worker-cpu .
FROM python:3.11.14-slim-bookworm
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev libnuma1 \
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
    MUSEWAY_DATA_DIR=/var/lib/museway
RUN python -m venv /opt/museway \
    && /opt/museway/bin/pip install --no-cache-dir ./sdk . \
    && museway engine install
EXPOSE 30000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=180s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:30000/v1/models', timeout=4)"]
ENTRYPOINT ["museway"]
CMD ["worker", "--host", "0.0.0.0", "--port", "30000"]
