"""WAV files read and made with the standard library, and their mel spectrograms as pictures."""

import wave

import numpy as np
from PIL import Image

from visiontl import DataError
from visiontl.kit.example import once

WINDOW, HOP, FLOOR = 256, 64, 70.0  # samples of a Fourier transform and between two; decibels below the loudest
CLASSES = ("chord", "noise", "pulse", "sweep", "tone")


def spectrogram(cfg, file):
    """A recording as a picture: time to the right, low bands below, RGB of one gray."""
    return picture(listen(file, cfg.rate, cfg.seconds), cfg.rate, cfg.mels)


def listen(file, rate, seconds):
    """The first seconds of a recording at this rate, -1 to 1, silence behind it: (rate * seconds,)."""
    try:
        with wave.open(str(file), "rb") as opened:
            width, channels, own = opened.getsampwidth(), opened.getnchannels(), opened.getframerate()
            raw = opened.readframes(int(own * seconds) + 1)
    except (OSError, EOFError, wave.Error) as error:
        raise DataError(f"{file}: is no WAV file that can be read ({error or 'it ends too early'})") from None
    if width not in (1, 2):
        raise DataError(f"{file}: {8 * width} bits a sample; 8 or 16 were expected")
    values = np.frombuffer(raw[: len(raw) // (width * channels) * width * channels], "u1" if width == 1 else "<i2")
    if not len(values):
        raise DataError(f"{file}: holds no sound")
    scaled = (values.astype(np.float64) - (128 if width == 1 else 0)) / 2 ** (8 * width - 1)
    mono = scaled.reshape(-1, channels).mean(1)
    return np.interp(np.arange(int(rate * seconds)) / rate, np.arange(len(mono)) / own, mono, right=0.0)


def picture(values, rate, mels):
    """(N,) samples -> a picture of `mels` rows and a column every HOP samples."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(values, WINDOW // 2), WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW))) ** 2  # (T, WINDOW / 2 + 1)
    decibels = 10 * np.log10(power @ bands(rate, mels).T + 1e-10)  # (T, mels)
    levels = np.clip(decibels - decibels.max() + FLOOR, 0, FLOOR) / FLOOR
    return Image.fromarray((255 * levels.T[::-1]).round().astype(np.uint8)).convert("RGB")


def bands(rate, mels):
    """(mels, WINDOW / 2 + 1) triangles that are equally wide in mel (O'Shaughnessy 1987), at least a bin wide each."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, mels + 2) / 2595) - 1)  # hertz
    bins = np.fft.rfftfreq(WINDOW, 1 / rate)
    wide = np.maximum(np.diff(edges), rate / WINDOW)[:, None]
    return np.clip(np.minimum((bins - edges[:-2, None]) / wide[:-1], (edges[2:, None] - bins) / wide[1:]), 0, 1)


def example(folder):
    return str(once(folder / "recordings", lambda place: make(place, 20)))


def make(place, number, rate=8000, seconds=1.0):
    """So many recordings of each class, each another one of its kind."""
    random = np.random.default_rng(0)
    for name in CLASSES:
        (place / name).mkdir(parents=True)
        for index in range(number):
            values = made(name, np.arange(int(rate * seconds)) / rate, random)
            values += random.normal(0, 0.02, len(values))
            sound = (0.5 * 32767 * values / np.abs(values).max()).astype("<i2")
            with wave.open(str(place / name / f"{index:03d}.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(rate)
                file.writeframes(sound.tobytes())


def made(name, time, random):
    """time: (N,) seconds -> (N,) samples."""
    low = random.uniform(200, 900)  # hertz
    if name == "tone":
        return np.sin(2 * np.pi * low * time)
    if name == "chord":
        return sum(np.sin(2 * np.pi * low * share * time) for share in (1, 1.26, 1.5, 2.52))
    if name == "sweep":
        high = random.uniform(1500, 3500)
        start, end = (low, high) if random.random() < 0.5 else (high, low)
        return np.sin(2 * np.pi * (start * time + (end - start) * time**2 / (2 * time[-1])))
    if name == "noise":
        return random.normal(0, 1, len(time))
    every = random.uniform(0.08, 0.25)  # seconds between two pulses
    return random.normal(0, 1, len(time)) * np.exp(-((time + random.uniform(0, every)) % every) / 0.01)
