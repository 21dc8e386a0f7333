"""The messages of gRPC's health checking protocol: one class for each in `health.proto`, under its name there."""

from mlctl.serving.grpc.services import names_of

globals().update(names_of("health.proto"))
