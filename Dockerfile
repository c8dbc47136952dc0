# docker build -t vidpred .                                  on CPUs
# docker build --build-arg EXTRA=cuda13 -t vidpred .         on NVIDIA GPUs; run with --gpus=all
# docker run --rm -v "$PWD:/work" vidpred predict clip.mp4 --output=out
FROM python:3.12-slim
ARG EXTRA=""
COPY . /src
RUN pip install --no-cache-dir "/src${EXTRA:+[$EXTRA]}" && rm -rf /src
WORKDIR /work
ENTRYPOINT ["vidpred"]
CMD ["--help"]
