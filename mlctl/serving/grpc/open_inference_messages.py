"""The messages of the Open Inference Protocol: one class for each in `open_inference.proto`, under its name there."""

from mlctl.serving.grpc.services import names_of

globals().update(names_of("open_inference.proto"))
