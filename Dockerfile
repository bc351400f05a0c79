# Two stages: the first builds the wheel with the pinned tools, the second holds only what runs. No address of any
# package index stands here; pip uses the one that the machine is set up for.
FROM python:3.12-slim AS build
WORKDIR /src
COPY requirements/dev.txt requirements/dev.txt
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements/dev.txt
COPY pyproject.toml README.md ./
COPY workflows workflows
COPY workers workers
COPY api api
COPY simulator simulator
RUN pip wheel --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation --no-index --wheel-dir /wheel .

FROM python:3.12-slim
RUN useradd --system --uid 10001 --create-home certbridge \
 && install -d -m 0700 -o certbridge -g certbridge /state \
 && install -d -o certbridge -g certbridge /inventory
COPY requirements/runtime.txt /tmp/runtime.txt
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /tmp/runtime.txt && rm /tmp/runtime.txt
COPY --from=build /wheel /tmp/wheel
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps --no-index /tmp/wheel/*.whl && rm -r /tmp/wheel
USER certbridge
WORKDIR /inventory
ENV CERTBRIDGE_STATE=/state PYTHONUNBUFFERED=1
STOPSIGNAL SIGTERM
ENTRYPOINT ["certbridge"]
CMD ["up"]
