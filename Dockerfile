# syntax=docker/dockerfile:1
# A worker and the `holdfast` command, without the embedded servers of `holdfast up`.

FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements-build.lock requirements-worker.lock ./
RUN python -m venv /opt/build && /opt/build/bin/pip install --require-hashes -r requirements-build.lock
RUN python -m venv /opt/holdfast && /opt/holdfast/bin/pip install --require-hashes -r requirements-worker.lock
COPY . .
RUN /opt/build/bin/python -m hatchling build -t wheel -d /dist \
    && /opt/holdfast/bin/pip install --no-deps --no-index /dist/*.whl

FROM python:3.11-slim-bookworm
COPY --from=build /opt/holdfast /opt/holdfast
RUN useradd --system --uid 10001 --home-dir /workspace --create-home --shell /usr/sbin/nologin holdfast
ENV PATH=/opt/holdfast/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Where holdfast.toml is looked for, and what the file tools may touch.
WORKDIR /workspace
USER holdfast
# SIGTERM lets the calls that run finish; give the container longer than your longest tool to stop.
STOPSIGNAL SIGTERM
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
CMD ["holdfast", "worker", "start", "--health-port", "8080"]
