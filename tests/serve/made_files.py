"""Small true files of every kind that uploads may be, made on the spot."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

RNG = np.random.default_rng(7)
RGB = RNG.integers(0, 256, (20, 24, 3), dtype=np.uint8)
VOXELS = RNG.integers(-900, 900, (4, 6, 8)).astype(np.int16)
SOUND = RNG.integers(-9000, 9000, 800).astype(np.int16)


def picture(kind: str, array: np.ndarray = RGB, **settings: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind, **settings)
    return stream.getvalue()


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(packed: bool = True, **arrays: Any) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(stream, **arrays)
    return stream.getvalue()


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name) if method == zipfile.ZIP_STORED else name, content)
    return stream.getvalue()


def png_header(width: int, height: int, rows: bytes = b"") -> bytes:
    """A grey PNG that claims a size; its rows are what is given."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def sound(kind: str, values: np.ndarray = SOUND, rate: int = 8000) -> bytes:
    import soundfile

    stream = io.BytesIO()
    soundfile.write(stream, values, rate, format=kind)
    return stream.getvalue()


def nifti(voxels: np.ndarray = VOXELS) -> bytes:
    """A NIfTI-1 file of ``voxels`` [Z, Y, X], 2 x 1.5 x 1 mm (z, y, x)."""
    import nibabel

    image = nibabel.Nifti1Image(voxels.transpose(2, 1, 0), np.diag([1.0, 1.5, 2.0, 1.0]))
    image.header.set_xyzt_units("mm")
    content: bytes = image.to_bytes()
    return content


def nifti_claiming(shape: tuple[int, int, int]) -> bytes:
    content = bytearray(nifti())
    struct.pack_into("<8h", content, 40, 3, *shape, 1, 1, 1, 1)
    return bytes(content[:352])


def dicom(plane: np.ndarray, place: float = 0.0, series: str = "1.2.3", deflated: bool = False, **tags: Any) -> bytes:
    """One CT slice [Y, X] of int16 stored values at ``place`` mm along z, 0.5 mm pixels, with the data of a patient."""
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = f"{series}.{int(place * 10) + 1}"
    uid = pydicom.uid
    meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian if deflated else uid.ExplicitVRLittleEndian
    header = Dataset()
    header.file_meta = meta
    header.PatientName, header.PatientID, header.PatientBirthDate = "Doe^Jane", "12345", "19700101"
    header.Modality, header.SeriesInstanceUID = "CT", series
    header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    header.Rows, header.Columns = plane.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit, header.PixelRepresentation = 15, 1
    header.RescaleSlope, header.RescaleIntercept = "1", "-1000"
    header.ImageOrientationPatient, header.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, place]
    header.PixelSpacing, header.SliceThickness = [0.5, 0.5], 2.5
    header.PixelData = plane.astype("<i2").tobytes()
    for name, value in tags.items():
        setattr(header, name, value)
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, header, enforce_file_format=True)
    return stream.getvalue()


def edf(channels: int = 2, seconds: int = 2, rate: int = 50) -> bytes:
    import edfio

    signals = [
        edfio.EdfSignal(RNG.normal(0, 20, seconds * rate), rate, label=f"C{i}", physical_dimension="uV")
        for i in range(channels)
    ]
    patient = edfio.Patient(code="X7", name="Jane_Doe")
    return bytes(edfio.Edf(signals, patient=patient).to_bytes())


def video(kind: str = "mp4", frames: int = 6, codec: str = "mpeg4") -> bytes:
    import av

    stream = io.BytesIO()
    with av.open(stream, "w", format=kind) as container:
        out = container.add_stream(codec, rate=10)
        out.width, out.height, out.pix_fmt = 32, 16, "yuv420p"
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((16, 32, 3), 30 * index, np.uint8), format="rgb24")
            container.mux(out.encode(frame))
        container.mux(out.encode(None))
    return stream.getvalue()


def tiff_cube(cube: np.ndarray) -> bytes:
    """[L, H, W] as a TIFF of L pages."""
    import tifffile

    stream = io.BytesIO()
    tifffile.imwrite(stream, cube, photometric="minisblack", compression="zlib")
    return stream.getvalue()


LONG = b"time,variable,value\n0.5,HR,80\n1.0,Temp,36.6\n1.5,HR,82\n"
WIDE = b"time,a,b\n" + b"".join(f"{i / 50:.2f},{i},{-i}\n".encode() for i in range(40))
SCENE = {
    "images": np.zeros((2, 4, 5, 3), np.uint8),
    "intrinsics": np.stack([np.diag([50.0, 50.0, 1.0])] * 2),
    "poses": np.stack([np.eye(4)] * 2),
}


def every_kind() -> dict[str, tuple[str, bytes, dict[str, Any]]]:
    """A small true file of each kind: what it is -> modality, bytes, scalars."""
    cube = RNG.random((5, 6, 7)).astype(np.float32)
    return {
        "png": ("image", picture("PNG"), {}),
        "jpeg": ("image", picture("JPEG"), {}),
        "webp": ("image", picture("WEBP"), {}),
        "avif": ("image", picture("AVIF"), {}),
        "tiff": ("image", picture("TIFF"), {}),
        "bmp": ("image", picture("BMP"), {}),
        "panorama": ("panorama", picture("PNG", np.zeros((8, 16, 3), np.uint8)), {}),
        "bands": ("hyperspectral", tiff_cube(cube), {}),
        "cube": ("hyperspectral", npy(cube), {"wavelength": [400.0 + 10 * i for i in range(7)]}),
        "cube in npz": ("hyperspectral", npz(cube=cube, wavelength=np.arange(7) + 400.0), {}),
        "wav": ("audio", sound("WAV"), {}),
        "flac": ("audio", sound("FLAC"), {}),
        "ogg": ("audio", sound("OGG"), {}),
        "nifti": ("volume", nifti(), {}),
        "nifti_gz": ("volume", gzip.compress(nifti()), {}),
        "dicom": ("volume", dicom(VOXELS[0]), {}),
        "slices": ("volume", zipped({f"{i}.dcm": dicom(VOXELS[i], 2.5 * i) for i in range(4)}), {}),
        "long table": ("series", LONG, {}),
        "wide table": ("series", WIDE, {}),
        "edf": ("series", edf(), {}),
        "usual arrays": ("series", npz(X=np.zeros((2, 9), np.float32), fs=np.array(50.0)), {}),
        "json": ("series", json.dumps({"signal": [[0.5, 1, 2]], "sampling_rate": 10}).encode(), {}),
        "mp4": ("video", video("mp4"), {}),
        "matroska": ("video", video("matroska"), {}),
        "webm": ("video", video("webm", codec="libvpx"), {}),
        "avi": ("video", video("avi"), {}),
        "scene": ("scene", npz(**SCENE), {}),
    }
