"""What serving does where nobody says otherwise. Standard library only: a server of a file starts without pydantic."""

from typing import Final

MODEL_NAME: Final = "model"
HOST: Final = "127.0.0.1"
PORT: Final = 8080
MAX_SIZE: Final = 64
MAX_DELAY_MS: Final = 0.0
QUEUE: Final = 1024
PADDING: Final = 1.25
TIMEOUT_SECONDS: Final = 30.0
GRACE_SECONDS: Final = 30.0
IDLE_SECONDS: Final = 75.0
SLOW_SECONDS: Final = 10.0
MAX_REQUEST_BYTES: Final = 64 * 2**20
MAX_CONNECTIONS: Final = 4096
