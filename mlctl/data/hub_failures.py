"""What huggingface-hub refuses, in mlctl's words."""

import httpx2
from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    DeviceCodeError,
    DisabledRepoError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    OIDCError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from mlctl.data.hub_client import no_address
from mlctl.data.hub_reference import HubFile
from mlctl.data.remote_failures import plain
from mlctl.data.remote_http import status_text
from mlctl.errors import DataError, MachineError, MlctlError


def hub_refusal(error: Exception, reference: HubFile) -> MlctlError | None:
    """The refusal that `error`, raised by the library, comes to; None for one that is not about the hub.

    DataError for what the hub refuses or does not have, MachineError where this machine is told to stay offline, cannot
    log in, or looks for a hub where none can be.
    """
    if isinstance(error, LocalEntryNotFoundError | ValueError) and isinstance(error.__cause__, OSError):
        # The library wraps what it met on the way to a file that is not, or no longer wanted, in its cache.
        error = error.__cause__
    match error:
        case OfflineModeIsEnabled():
            what = "the cache of the hub does not hold the file whole, and HF_HUB_OFFLINE forbids to download it"
            next_step = "unset HF_HUB_OFFLINE, or let HF_HOME name the cache that holds it"
            return MachineError(what, where=reference, next=next_step)
        case OIDCError() | DeviceCodeError():
            what, next_step = f"the login to the hub failed ({plain(error)})", "set HF_TOKEN, or log in again"
            return MachineError(what, where=reference, next=next_step)
        case httpx2.InvalidURL():
            return no_address()
        case FileMetadataError() | httpx2.TooManyRedirects() | httpx2.DecodingError():
            what = f"{constants.ENDPOINT} does not answer as a hub does"
            next_step = "check HF_ENDPOINT and the proxy settings (https_proxy, no_proxy)"
        case HfHubHTTPError():
            what, next_step = _answered(error, reference)
        case ValueError():
            what = f"the library of the hub refuses the file ({plain(error)})"
            next_step = "mend the name, or download the file yourself and name its path"
        case _:
            return None
    return DataError(what, where=reference, next=next_step)


def _answered(error: HfHubHTTPError, reference: HubFile) -> tuple[str, str]:
    """What is wrong, and what to do next."""
    page = f"{constants.ENDPOINT}/{reference.kind}/{reference.repository}"
    has_token = get_token() is not None
    token = "let HF_TOKEN hold a token with access" if has_token else "set HF_TOKEN if it is private"
    match error:
        case GatedRepoError():
            unset = "" if has_token else ", and HF_TOKEN is not set"
            what = f"the hub keeps this data set for those who asked for access{unset}"
            return what, f"ask for it on {page}, and set HF_TOKEN to a token of that account"
        case RepositoryNotFoundError():
            seen = "that HF_TOKEN may see" if has_token else "that may be seen without HF_TOKEN"
            return f"the hub has no data set {reference.repository} {seen}", f"mend the name, or {token}"
        case RevisionNotFoundError():
            return f"the data set has no revision {reference.revision}", f"choose one of {page}/commits/main"
        case RemoteEntryNotFoundError():
            what = f"the data set has no file {reference.file} at this revision"
            return what, f"choose one of {page}/tree/{reference.revision}"
        case DisabledRepoError():
            return "the hub has disabled this data set", "choose another one"
    return _refused(error.response.status_code, has_token)


def _refused(status: int, has_token: bool) -> tuple[str, str]:
    said = f"the hub answers {status_text(status)}"
    if status not in (401, 403):
        return said, "mend the name, or check HF_ENDPOINT"
    if has_token:
        return f"{said} to the token in HF_TOKEN", "let HF_TOKEN hold a valid token with read access to the data set"
    return f"{said}, and HF_TOKEN is not set", "set HF_TOKEN to a token with read access to the data set"
