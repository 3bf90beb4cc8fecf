"""Cutting secrets out of what a tool said, before anything of it is kept or shown to the model.

Two sources: values this worker knows to be secret, and credentials of known kinds, found by detect-secrets. Its
detectors of entropy and of suspicious words stay out: they cut out ordinary ids, which a later call needs.
"""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import quote

SHORTEST = 6
"""Characters of a known secret; shorter ones stand in ordinary words."""
SHORTEST_FOUND = 20
"""Characters of a credential of a known kind, but for a password in a URL."""
MOST_NAMED = 200
"""Characters of a value that is looked at together with its name."""
DETECTORS = (
    "aws.AWSKeyDetector",
    "azure_storage_key.AzureStorageKeyDetector",
    "basic_auth.BasicAuthDetector",
    "discord.DiscordBotTokenDetector",
    "github_token.GitHubTokenDetector",
    "gitlab_token.GitLabTokenDetector",
    "jwt.JwtTokenDetector",
    "mailchimp.MailchimpDetector",
    "openai.OpenAIDetector",
    "pypi_token.PypiTokenDetector",
    "sendgrid.SendGridDetector",
    "slack.SlackDetector",
    "square_oauth.SquareOAuthDetector",
    "stripe.StripeDetector",
    "telegram_token.TelegramBotTokenDetector",
)
_SECRET_IN_GROUP = frozenset({"aws-access-key", "basic-auth-credentials"})
"""Their patterns' first group is the secret; of the others all that matched is."""
_OWN = {
    # The library finds a private key's first line, not the key.
    "private-key": re.compile(
        r"-----BEGIN (?P<kind>[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?)-----.*?(?:-----END (?P=kind)-----|\Z)",
        re.DOTALL,
    ),
    "anthropic-key": re.compile(r"sk-ant-[A-Za-z0-9_-]{20,}"),
    # The library's pattern needs a whole .npmrc line, and minutes for a long one.
    "npm-token": re.compile(r"\bnpm_[A-Za-z0-9]{36}\b"),
}
_REST_OF_TOKEN = re.compile(r"[\w=/+.-]*")
_RUN = re.compile(r"[\w=.-]{20,}")
_START = {
    "json-web-token": re.compile(r"(?<![A-Za-z0-9])eyJ"),
    "openai-token": re.compile(r"(?<![A-Za-z0-9])sk-"),
}
"""Patterns that take quadratic time on a text made for it: only a few beginnings in a run are tried."""
_STARTS_TRIED = 4


class Cut(NamedTuple):
    start: int
    end: int
    kind: str


class Detector(NamedTuple):
    kind: str
    pattern: re.Pattern[str]

    def cuts(self, text: str) -> Iterator[Cut]:
        group = 1 if self.kind in _SECRET_IN_GROUP and self.pattern.groups else 0
        for match in self._matches(text):
            start, end = match.span(group)
            if self.kind == "json-web-token":
                if not _is_json(match[0].partition(".")[0]):
                    continue
                rest = _REST_OF_TOKEN.match(text, end)
                end = rest.end() if rest else end
            yield Cut(start, end, self.kind)

    def _matches(self, text: str) -> Iterator[re.Match[str]]:
        begin = _START.get(self.kind)
        if begin is None:
            yield from self.pattern.finditer(text)
            return
        for run in _RUN.finditer(text):
            for start in islice(begin.finditer(text, run.start(), run.end()), _STARTS_TRIED):
                if match := self.pattern.match(text, start.start(), run.end()):
                    yield match


@cache
def detectors() -> tuple[Detector, ...]:
    """All patterns; the first call loads the library."""
    import pkgutil

    found = [Detector(kind, pattern) for kind, pattern in _OWN.items()]
    for reference in DETECTORS:
        plugin = pkgutil.resolve_name(f"detect_secrets.plugins.{reference.replace('.', ':')}")()
        kind = "-".join(plugin.secret_type.lower().split())
        found += [Detector(kind, pattern) for pattern in plugin.denylist]
    return tuple(found)


class Redacted(NamedTuple):
    """`cut`: how many secrets of which kind were replaced."""

    value: Any
    cut: Mapping[str, int]


class Redactor:
    """Replaces each secret by `[redacted: KIND]`; a known one by its name."""

    def __init__(self, known: Mapping[str, str] | None = None, *, detect: bool = True) -> None:
        """Args:
        known: secret values by the name that stands in their place; those below `SHORTEST` are left out.
        """
        self._detect = detect
        names = {form: name for name, secret in (known or {}).items() for form in _forms(secret)}
        longest_first = sorted(names, key=len, reverse=True)
        self._names = names
        self._known = re.compile("|".join(map(re.escape, longest_first))) if names else None

    def redact(self, value: Any) -> Redacted:
        """JSON values with every string cleaned, names too."""
        cut: Counter[str] = Counter()
        return Redacted(self._walked(value, cut), dict(cut))

    def text(self, text: str) -> str:
        return self._cleaned(text, Counter())

    def evidence(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """What is known of an attempt; author's code names things in it."""
        cleaned: dict[str, Any] = self.redact(dict(known)).value
        return cleaned

    def holds_secret(self, data: bytes) -> bool:
        """Whether there is one in binary data."""
        cut: Counter[str] = Counter()
        self._cleaned(data.decode("latin-1"), cut)
        return bool(cut)

    def _walked(self, value: Any, cut: Counter[str]) -> Any:
        match value:
            case str():
                return self._cleaned(value, cut)
            case dict():
                return {self._walked(name, cut): self._named(name, item, cut) for name, item in value.items()}
            case list():
                return [self._walked(item, cut) for item in value]
            case _:
                return value

    def _named(self, name: Any, item: Any, cut: Counter[str]) -> Any:
        """AWS's secret keys look like any text, but for the name beside them."""
        if self._detect and "aws" in str(name).lower() and isinstance(item, str) and len(item) <= MOST_NAMED:
            line = f'{name}="{item}"'
            for found in self._found(line):
                if line[found.start : found.end] == item:
                    cut[found.kind] += 1
                    return f"[redacted: {found.kind}]"
        return self._walked(item, cut)

    def _cleaned(self, text: str, cut: Counter[str]) -> str:
        if self._known is not None:

            def replaced(match: re.Match[str]) -> str:
                name = self._names[match[0]]
                cut[name] += 1
                return f"[redacted: {name}]"

            text = self._known.sub(replaced, text)
        if not self._detect or (len(text) < SHORTEST_FOUND and "://" not in text):
            return text
        return _without(text, self._found(text), cut)

    def _found(self, text: str) -> Iterable[Cut]:
        return (found for detector in detectors() for found in detector.cuts(text))


def _without(text: str, found: Iterable[Cut], cut: Counter[str]) -> str:
    parts, done = [], 0
    for each in sorted(found, key=lambda one: (one.start, -one.end)):
        if each.start < done:
            continue  # inside one that is gone already
        parts += [text[done : each.start], f"[redacted: {each.kind}]"]
        cut[each.kind] += 1
        done = each.end
    return "".join([*parts, text[done:]]) if parts else text


def _forms(secret: str) -> set[str]:
    """A secret as it may stand in text: itself, in a URL, in base64."""
    if len(secret) < SHORTEST:
        return set()
    encoded = base64.b64encode(secret.encode("utf-8", "surrogatepass")).decode("ascii")
    return {secret, quote(secret, safe="", errors="replace"), encoded, json.dumps(secret)[1:-1]}


def _is_json(part: str) -> bool:
    try:
        json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except ValueError:
        return False
    return True
