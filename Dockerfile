# One image for every way to run the gateway: alone, as a sidecar, or as a command (`keys create`, …).
#
#   docker build --tag gateway:0.1.0 .
#   docker run --publish 8080:8080 --volume gateway:/var/lib/gateway \
#       --env GATEWAY_UPSTREAM=http://backend.internal:9000 gateway:0.1.0
#
# It is configured by variables or by a file that GATEWAY_CONFIG names, not by flags, so that the
# health check and `docker exec … gateway keys create` read the very same settings.
ARG PYTHON_IMAGE=python:3.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
# Without pip: the final image has no use for an installer.
RUN python -m venv --without-pip /opt/gateway
# The dependencies come first, exact and by hash: the layer lasts until one of them changes.
COPY deploy/image/requirements.txt ./
RUN pip --python /opt/gateway/bin/python install --no-compile --only-binary=:all: --require-hashes \
        --requirement requirements.txt
COPY pyproject.toml README.md ./
COPY gateway ./gateway
# Bytecode is compiled here, because the file system may be read-only later, and without time
# stamps, so that the same sources give the same bytes.
RUN pip --python /opt/gateway/bin/python install --no-compile --no-deps . \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/gateway/lib

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="gateway" \
      org.opencontainers.image.description="An authenticating reverse proxy: API keys in front of any HTTP backend" \
      org.opencontainers.image.version="0.1.0"
# A number, since Kubernetes can prove `runAsNonRoot` of a number only; the state is its alone.
RUN pip uninstall --yes pip \
    && groupadd --gid 65532 gateway \
    && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin gateway \
    && install --directory --owner=65532 --group=65532 --mode=0700 /var/lib/gateway
COPY --from=build /opt/gateway /opt/gateway
# STATE_DIRECTORY is where the store lies unless the configuration says otherwise.
ENV PATH=/opt/gateway/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 STATE_DIRECTORY=/var/lib/gateway
USER 65532:65532
VOLUME /var/lib/gateway
EXPOSE 8080 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["gateway", "healthcheck"]
ENTRYPOINT ["gateway"]
CMD ["run"]
