"""Sources of kind ``image``: their vocabulary, and what is the same whoever makes the pictures."""

from __future__ import annotations

import asyncio
import binascii
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Protocol

import msgspec

from agentflow import egress
from agentflow.addresses import Policy
from agentflow.errors import (
    CallTimeout,
    ConnectionFailed,
    ContentFiltered,
    ProviderRejected,
    ProviderUnavailable,
    StepError,
)
from agentflow.sources import prices
from agentflow.sources.answer import Counts, shown
from agentflow.sources.base import BilledError, Source
from agentflow.sources.credentials import masked
from agentflow.sources.images_bytes import media_type_of, size_of
from agentflow.sources.parameters import TIMEOUT_S
from agentflow.sources.text import well_formed

Json = Any
log = logging.getLogger(__name__)

SIZE, QUALITY, STYLE = "1024x1024", "standard", "vivid"
MOST_BYTES = 32 * 2**20
"""Of one picture."""
CAPS = egress.Caps(body=192 * 2**20, decompressed=192 * 2**20, total_s=3600.0)
"""Of a reply with the pictures of one call in it, as base64."""
FETCH_S = 30.0
FETCHES = 3
"""How often a picture is fetched that is paid for already."""
PAUSE_S = 0.5
_PIECE = 2**18
"""Characters of base64, by fours, that are read at once: other threads have their turn in between."""
_DATA = re.compile(r"data:[a-z]+/[a-z0-9.+-]+;base64,", re.IGNORECASE)


class ImageRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One call for pictures. None leaves a parameter to the source's configuration or default.

    ``fetch``: whether a picture that is only given an address of is fetched. ``attempt`` counts the
    tries of the step that calls.
    """

    prompt: str
    size: str | None = None
    quality: str | None = None
    style: str | None = None
    n: int = 1
    fetch: bool = True
    idempotency_key: str = ""
    attempt: int = 1


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """A picture: its ``content``, or only the provider's ``url`` of it. ``size`` (width x height in
    pixels) and ``media_type`` are told from the content."""

    content: bytes | None = None
    url: str = ""
    media_type: str = ""
    size: str = ""
    revised_prompt: str = ""


class ImageReply(msgspec.Struct, frozen=True, kw_only=True):
    """The pictures of one call. Token counts are 0 where the provider counts none; ``cost`` and
    ``priced`` as for models (see :class:`agentflow.sources.base.ModelReply`)."""

    images: tuple[Image, ...]
    model: str
    provider: str
    size: str
    quality: str
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    cost: float = 0.0
    priced: bool = True
    request_id: str = ""


class ImageSource(Source, Protocol):
    """A source of kind ``image``."""

    async def generate(
        self, request: ImageRequest, on_text: Callable[[str], None] | None = None
    ) -> ImageReply:
        """Have pictures made, at least one; nothing is said while they are.

        Raises StepError; BilledError when the provider billed a call that failed.
        """
        ...

    async def look(self, timeout_s: float) -> str:
        """Ask the provider for its models, which costs nothing, and say what was asked and what came.

        Raises StepError.
        """
        ...


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of one call: the node's, else the source's, else the defaults. ``given`` names
    those that an author set; ``timeout_s`` in seconds bounds the whole call."""

    model: str
    prompt: str
    size: str
    quality: str
    style: str
    n: int
    fetch: bool
    timeout_s: float
    given: frozenset[str]


def wish(request: ImageRequest, config: Mapping[str, Json]) -> Wish:
    """The parameters of a call of this source."""

    def choose(name: str, default: str) -> str:
        return str(getattr(request, name) or config.get(name) or default)

    return Wish(
        model=str(config.get("model") or ""),
        prompt=request.prompt,
        size=choose("size", SIZE),
        quality=choose("quality", QUALITY),
        style=choose("style", STYLE),
        n=request.n,
        fetch=request.fetch,
        timeout_s=float(config.get("timeout_s") or TIMEOUT_S),
        given=frozenset(name for name in ("size", "quality", "style") if choose(name, "")),
    )


class Making:
    """What came back of one call so far; the sources fill it. ``where`` names model and address."""

    def __init__(self, provider: str, base_url: str, wished: Wish) -> None:
        self.where = f"Model {wished.model!r} at {shown(base_url)}"
        self.request_id = ""
        self.counts: Counts | None = None
        self.picture_tokens = 0
        self.images: list[Image] = []
        self.refusals: list[str] = []
        self.answered = False
        self._provider, self._wished = provider, wished

    @property
    def began(self) -> bool:
        """Whether the provider has answered, so that it bills the call."""
        return self.answered

    def take(self, content: bytes, revised_prompt: Json = None) -> None:
        """Add a picture; more than were asked for are left. Raises ProviderUnavailable for what is none,
        ProviderRejected above the limit."""
        if self._is_full():
            return
        self.images.append(self._checked(content, revised_prompt))

    def take_base64(self, data: str, revised_prompt: Json = None) -> None:
        """Add a picture in base64. Raises as :meth:`take`."""
        if self._is_full():
            return
        if len(data) > MOST_BYTES * 4 // 3 + 4:
            raise self._too_large()
        try:
            content = b"".join(
                binascii.a2b_base64(data[start : start + _PIECE], strict_mode=True)
                for start in range(0, len(data), _PIECE)
            )
        except (binascii.Error, ValueError):
            raise ProviderUnavailable(
                f"{self.where} sent a picture whose base64 cannot be read"
            ) from None
        self.take(content, revised_prompt)

    def take_url(self, url: str, revised_prompt: Json = None) -> None:
        """Add a picture that an address is given of, or that is one. Raises as :meth:`take`, and
        ProviderRejected for an address that nobody could fetch."""
        if self._is_full():
            return
        start = _DATA.match(url)
        if start is not None:
            self.take_base64(url[start.end() :], revised_prompt)
            return
        egress.check_url(url)
        self.images.append(Image(url=url, revised_prompt=_words(revised_prompt)))

    def _is_full(self) -> bool:
        """Whether there are as many as were asked for: each costs memory, and perhaps a call."""
        return len(self.images) >= self._wished.n

    async def fetch(self, policy: Policy) -> None:
        """Fetch every picture that only an address is given of, beside each other; where one cannot be
        had, the others are given up. Raises StepError."""
        fetching = {
            place: asyncio.ensure_future(self._fetched(image, policy))
            for place, image in enumerate(self.images)
            if image.content is None
        }
        try:
            fetched = await asyncio.gather(*fetching.values())
        finally:
            for each in fetching.values():
                each.cancel()
            await asyncio.gather(*fetching.values(), return_exceptions=True)
        for place, image in zip(fetching, fetched, strict=True):
            self.images[place] = image

    async def _fetched(self, image: Image, policy: Policy) -> Image:
        """The picture is paid for, so it is asked for again where that may help; and a connection that
        fails is no proof that nothing happened."""
        for tries in range(1, FETCHES + 1):
            try:
                return self._checked(await self._content(image.url, policy), image.revised_prompt)
            except (ConnectionFailed, ProviderUnavailable) as error:
                if tries == FETCHES:
                    raise ProviderUnavailable(error.message) from error
                log.warning("A picture is fetched again: %s", error.message)
                await asyncio.sleep(PAUSE_S * tries)
        raise AssertionError("it is fetched at least once")

    async def _content(self, url: str, policy: Policy) -> bytes:
        where = f"The picture of {self.where} at {shown(url)}"
        caps = egress.Caps(body=MOST_BYTES, decompressed=MOST_BYTES, total_s=FETCH_S)
        async with egress.client(policy, FETCH_S, caps=caps) as http:
            response = await http.get(url)
        if response.status_code != 200:
            raise ProviderUnavailable(
                f"{where} could not be fetched: the answer was {response.status_code}"
            )
        content: bytes = response.content
        return content

    def _checked(self, content: bytes, revised_prompt: Json) -> Image:
        if len(content) > MOST_BYTES:
            raise self._too_large()
        kind, size = media_type_of(content), size_of(content)
        if kind is None or size is None:
            what = "nothing" if not content else "something that is no picture"
            raise ProviderUnavailable(
                f"{self.where} sent {what} as a picture: PNG, JPEG, GIF and WebP are understood"
            )
        return Image(
            content=content,
            media_type=kind,
            size=f"{size[0]}x{size[1]}",
            revised_prompt=_words(revised_prompt),
        )

    def _too_large(self) -> ProviderRejected:
        return ProviderRejected(f"{self.where} sent a picture of more than {MOST_BYTES} bytes")

    def reply(self, config: Mapping[str, Json], priced_at: str | None) -> ImageReply:
        """The finished reply. Raises ContentFiltered, ProviderUnavailable."""
        if not self.images:
            if self.refusals:
                why = masked("; ".join(self.refusals))
                raise ContentFiltered(
                    f"The content filter of {self.where} stopped every picture: {why}; change the "
                    "prompt"
                )
            raise ProviderUnavailable(f"{self.where} answered without a picture")
        if len(self.images) < self._wished.n:
            log.warning("%s made %d pictures of %d", self.where, len(self.images), self._wished.n)
        return self.so_far(config, priced_at)

    def so_far(self, config: Mapping[str, Json], priced_at: str | None) -> ImageReply:
        """What came back, with its usage and cost. ``priced_at``: the address that finds the price,
        where it is not the provider's own."""
        counts, wished = self.counts or Counts(0, 0), self._wished
        made = len(self.images) or (0 if self.refusals else wished.n)
        cost, priced = prices.picture_cost(
            provider=self._provider,
            model=wished.model,
            base_url=priced_at,
            price=config.get("price"),
            pictures=made,
            input_tokens=counts.input,
            output_tokens=counts.output,
            picture_tokens=self.picture_tokens,
        )
        return ImageReply(
            images=tuple(self.images),
            model=wished.model,
            provider=self._provider,
            size=wished.size,
            quality=wished.quality,
            input_tokens=counts.input,
            output_tokens=counts.output,
            cost=cost,
            priced=priced,
            request_id=self.request_id,
        )

    def billed(
        self, error: StepError, config: Mapping[str, Json], priced_at: str | None
    ) -> StepError | BilledError:
        """The error, naming model and address; as a billed one if the provider had answered before."""
        if self.where not in error.message:
            error = type(error)(f"{self.where}: {error.message}", after=error.after)
        return BilledError(error, self.so_far(config, priced_at)) if self.answered else error


class Painting(ABC):
    """Calls for pictures over the connection of a provider's models, which it is mixed with: address,
    credentials and the meaning of errors are the same for texts and pictures."""

    _config: Mapping[str, Json]
    _provider: str
    _base_url: str
    _own_address: bool
    _policy: Policy
    sdk_error: ClassVar[type[Exception]]

    async def generate(
        self, request: ImageRequest, on_text: Callable[[str], None] | None = None
    ) -> ImageReply:
        """See :class:`ImageSource`."""
        wished = wish(request, self._config)
        headers, secrets = self._headers(request, wished)
        making = Making(self._provider, self._base_url, wished)
        priced_at = None if self._own_address else self._base_url
        try:
            async with self._typed(making, secrets, wished.timeout_s):
                await self._make(making, wished, headers)
                if wished.fetch:
                    await making.fetch(self._policy)
                return making.reply(self._config, priced_at)
        except StepError as error:
            raise making.billed(error, self._config, priced_at) from None

    async def look(self, timeout_s: float) -> str:
        """See :class:`ImageSource`."""
        nothing = ImageRequest(prompt="")
        wished = wish(nothing, {**self._config, "timeout_s": timeout_s})
        headers, secrets = self._headers(nothing, wished)
        making = Making(self._provider, self._base_url, wished)
        async with self._typed(making, secrets, timeout_s):
            return await self._look(making.where, wished, headers)

    @asynccontextmanager
    async def _typed(
        self, making: Making, secrets: tuple[str, ...], timeout_s: float
    ) -> AsyncIterator[None]:
        """What goes wrong in it is a step error, and it takes no longer than ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                yield
        except TimeoutError:
            raise CallTimeout(f"{making.where} did not answer within {timeout_s:g} s") from None
        except self.sdk_error as error:
            raise self._mapped(error, making, secrets) from None

    @abstractmethod
    async def _make(self, making: Making, wished: Wish, headers: dict[str, Json]) -> None:
        """Call, and read the answer. Raises StepError and what the SDK raises."""

    @abstractmethod
    async def _look(self, where: str, wished: Wish, headers: dict[str, Json]) -> str:
        """Ask for what the provider says of its models. Raises StepError and what the SDK raises."""

    def _headers(self, request: Any, chosen: Any) -> tuple[dict[str, Json], tuple[str, ...]]:
        """The headers of a call, and the secret values among them. Raises MissingCredential."""
        return super()._headers(request, chosen)  # type: ignore[misc, no-any-return]

    def _mapped(self, error: Any, answer: Any, secrets: tuple[str, ...]) -> StepError:
        """The step error of an error of the SDK."""
        return super()._mapped(error, answer, secrets)  # type: ignore[misc, no-any-return]


def _words(said: Json) -> str:
    return well_formed(said) if isinstance(said, str) else ""
