"""Videos, by OpenCV: `pip install 'jaxcv-research[video]'`. Frames come and go one by one: any length fits."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxcv.errors import UserError

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")


def is_video(path: Path) -> bool:
    """Whether a file's name says that it is a video."""
    return path.suffix.lower() in SUFFIXES


class Video:
    """A video that is read: its frames as uint8 RGB [h w 3]."""

    def __init__(self, path: Path):
        """Open it.

        Raises:
            UserError: OpenCV is missing, or does not read the file.
        """
        self._cv2 = _opencv(path)
        self._path, self._capture = path, self._cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise UserError(f"{path}: OpenCV cannot read this video")
        self.rate = float(self._capture.get(self._cv2.CAP_PROP_FPS)) or 25.0
        """Frames a second."""
        self.count = max(0, int(self._capture.get(self._cv2.CAP_PROP_FRAME_COUNT)))
        """Frames, as the file says; 0 where it does not."""

    def frames(self, together: int) -> Iterator[list[np.ndarray]]:
        """All frames, so many at a time."""
        frames = []
        while True:
            read, frame = self._capture.read()
            if read:
                frames.append(np.ascontiguousarray(frame[..., ::-1]))
            if len(frames) == together or (frames and not read):
                yield frames
                frames = []
            if not read:
                self._capture.release()
                return


class Drawing:
    """A video that is written, of frames of equal sizes."""

    def __init__(self, path: Path, rate: float):
        """To be written at so many frames a second."""
        self._cv2, self._path, self._rate, self._writer = _opencv(path), path, rate, None

    def add(self, frame: np.ndarray) -> None:
        """Write a frame, uint8 RGB [h w 3]; the codec wants even sizes, so a last odd row or column is left out.

        Raises:
            UserError: OpenCV cannot write such a video.
        """
        height, width = (length // 2 * 2 for length in frame.shape[:2])
        if self._writer is None:
            code = self._cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = self._cv2.VideoWriter(str(self._path), code, self._rate, (width, height))
            if not self._writer.isOpened():
                raise UserError(f"{self._path}: OpenCV cannot write this video")
        self._writer.write(np.ascontiguousarray(frame[:height, :width, ::-1]))

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()


def _opencv(path: Path) -> Any:
    try:
        import cv2  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(f"{path}: videos are read by OpenCV: pip install 'jaxcv-research[video]'") from error
    return cv2
