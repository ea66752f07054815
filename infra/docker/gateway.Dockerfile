# The gateway: `museway serve`. Stateless but for its journal, which must lie on a volume of its own disk.
# Build from the repository's root: docker build --file infra/docker/gateway.Dockerfile --tag museway-gateway .
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md ./
COPY sdk sdk
COPY platform platform
COPY engine engine
COPY billing billing
RUN python -m venv /opt/museway \
    && /opt/museway/bin/pip install --no-cache-dir ./sdk .

FROM python:3.11.14-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/museway --create-home museway
COPY --from=build /opt/museway /opt/museway
ENV PATH=/opt/museway/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MUSEWAY_DATA_DIR=/var/lib/museway \
    MUSEWAY_HOST=0.0.0.0 \
    MUSEWAY_PORT=8400
USER 10001
VOLUME /var/lib/museway
EXPOSE 8400
# exec form: SIGTERM reaches the server, which lets running streams finish and settles what they cost.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8400/healthz', timeout=2)"]
ENTRYPOINT ["museway"]
CMD ["serve"]
