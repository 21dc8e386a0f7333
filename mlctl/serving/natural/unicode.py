"""Whether what JSON calls a string is a text."""

from mlctl.serving.refusals import Malformed


def require_unicode(text: str) -> None:
    """Raise Malformed for half of a surrogate pair, which JSON can spell and no encoding can."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Malformed("the text holds half of a surrogate pair, which is no character") from error
