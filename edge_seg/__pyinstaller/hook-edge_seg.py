"""What a program frozen by PyInstaller has of edge-seg beside what its imports name.

The networks and boards, as files; the backends, which are imported by a name in a table; OpenVINO's
plugins, which it opens by name; and the libraries' own metadata, which `edge-seg doctor` reads.
"""

from importlib.metadata import PackageNotFoundError

from PyInstaller.utils.hooks import (
    collect_data_files,
    collect_dynamic_libs,
    collect_submodules,
    copy_metadata,
)

LIBRARIES = (
    *("ai-edge-litert", "numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt"),
    "tflite-runtime",
)

hiddenimports = collect_submodules("edge_seg.backends")
binaries = collect_dynamic_libs("openvino", search_patterns=["*.so*"])
datas = collect_data_files("edge_seg")
for library in LIBRARIES:
    try:
        datas += copy_metadata(library)
    except PackageNotFoundError:
        continue
