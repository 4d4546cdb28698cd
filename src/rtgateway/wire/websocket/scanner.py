"""The scanner: bytes of one direction in, those that may be passed on out (RFC 6455, 5)."""

from __future__ import annotations

from collections.abc import Callable

from rtgateway.wire.websocket.control import parse_close, xor
from rtgateway.wire.websocket.rules import CLOSE, NO_MESSAGE, FrameError, FrameRules

__all__ = ["Control", "FrameScanner"]

Control = Callable[[int, bytes, bytes], bytes]
"""Called with opcode, payload (unmasked) and the frame as it came; returns what is passed on
instead of it: the frame itself, other whole frames, or nothing."""

# What `_left` says when it is no number of bytes.
_PLAIN = 0  # a frame begins with the next byte, and no message is open
_CAREFUL = -1  # there are withheld bytes, or a message is open
_OVER = -2  # a Close frame or a violation has come


class FrameScanner:
    """See the package. Never holds back more than 130 bytes.

    The most frequent read is a whole message, or a piece of a long one. Both are dealt with by
    `feed` alone, the first by one look into a table of all first two bytes that there can be;
    everything else goes through `_scan`.

    :ivar messages: data messages begun.
    :ivar boundary: in what the last `feed` returned, the offset of the last end of a frame, where
        other frames may be put in; -1 if no frame ended in that read. (A frame that was swallowed
        ends where it would have been.)
    :ivar closed: a Close frame has come; what comes behind it is dropped.
    """

    __slots__ = (
        "_control",
        "_held",
        "_left",
        "_message",
        "_other_frames",
        "_rules",
        "_whole",
        "boundary",
        "closed",
        "messages",
    )

    def __init__(self, rules: FrameRules, control: Control) -> None:
        self._rules = rules
        self._whole = rules.whole
        self._control = control
        self._left = _PLAIN  # payload bytes of the current data frame that have not come
        self._held = b""  # an incomplete header or control frame
        self._message = NO_MESSAGE  # payload bytes of the current message by its headers so far
        self._other_frames = 0
        self.messages = 0
        self.boundary = -1
        self.closed = False

    @property
    def frames(self) -> int:
        """All frames: data frames begun and control frames complete."""
        return self.messages + self._other_frames

    @property
    def between(self) -> bool:
        """Whether what was returned so far ends at a frame boundary."""
        return self._left <= 0

    def feed(self, data: bytes) -> bytes:
        """What of ``data``, and of what was withheld, may be passed on; often ``data`` itself.

        Raises `FrameError` with all that came before the violation. After that, and after a Close
        frame, nothing is passed on.
        """
        size = len(data)
        left = self._left
        if left > size:
            self._left = left - size
            self.boundary = -1
            return data
        if not left and size > 1:
            whole = self._whole[data[0]][data[1]]
            if whole == size or (
                # The length is in the next two bytes. With that many it is in its shortest form.
                whole < 0 and size > 133 and (data[2] << 8 | data[3]) - whole == size
            ):
                self.messages += 1
                self.boundary = size
                return data
        return self._scan(data)

    def _scan(self, data: bytes) -> bytes:
        """Frame by frame. ``at`` is a frame boundary; ``start`` is where the part begins that is
        passed on as it is; ``shift`` is how much longer the output is than the input so far."""
        at, self._left = self._left, _OVER  # which it stays if anything goes wrong
        self.boundary = -1
        if at == _OVER:
            return b""
        if at == _CAREFUL:
            at = 0
            data = self._held + data
            self._held = b""
        end = len(data)
        left = start = shift = 0
        cut: list[bytes] = []
        try:
            while at + 1 < end:
                if self._message < 0:
                    at = self._skip_small(data, at)
                    if at + 1 >= end:
                        break
                header, length = self._rules.read(data, at, self._message)
                behind = at + header + length
                if data[at] & 0x08:
                    if behind > end:
                        break
                    frame = data[at:behind]
                    instead = self._take_control(frame, header)
                    if instead is not frame:
                        cut += data[start:at], instead
                        start = behind
                        shift += len(instead) - len(frame)
                    if self.closed:
                        end = behind
                elif not header or at + header > end:
                    break
                else:
                    self._begin(data[at], length)
                    if behind > end:
                        left = behind - end
                        break
                at = behind
        except FrameError as error:
            cut.append(data[start:at])
            error.passed = b"".join(cut)
            raise
        finally:
            if at:
                self.boundary = at + shift
        stop = end if left else at
        if not self.closed:
            self._held = data[stop:]
            self._left = left or (_CAREFUL if self._held or self._message >= 0 else _PLAIN)
        cut.append(data[start:stop])
        return b"".join(cut)

    def _skip_small(self, data: bytes, at: int) -> int:
        """Behind the run of short whole messages that begins at ``at``."""
        whole = self._whole
        end = len(data)
        last = end - 1
        count = size = 0
        while at < last and (size := whole[data[at]][data[at + 1]]) > 0:
            at += size
            count += 1
        if at > end:  # the last one is not whole
            at -= size
            count -= 1
        self.messages += count
        return at

    def _begin(self, first: int, length: int) -> None:
        """Count a data frame."""
        if first & 0x0F:
            self.messages += 1
            before = 0
        else:
            self._other_frames += 1
            before = self._message
        self._message = NO_MESSAGE if first & 0x80 else before + length

    def _take_control(self, frame: bytes, header: int) -> bytes:
        """What is passed on instead of a whole control frame."""
        opcode = frame[0] & 0x0F
        payload = frame[header:]
        if self._rules.masked:
            payload = xor(payload, frame[2:6])
        if opcode == CLOSE:
            parse_close(payload)
            self.closed = True
        self._other_frames += 1
        return self._control(opcode, payload, frame)

    def __repr__(self) -> str:
        if self._left > 0:
            state = f"left={self._left}"
        elif self._left == _OVER:
            state = "closed" if self.closed else "broken"
        else:
            state = f"between held={len(self._held)}{' in message' * (self._message >= 0)}"
        return f"<FrameScanner {state} messages={self.messages} frames={self.frames}>"
