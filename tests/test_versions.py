"""What results and speed depend on is printed."""

import numpy as np
import threadpoolctl

import skdnn


def test_versions_threads_and_every_blas_are_printed(capsys):
    skdnn.show_versions()
    output = capsys.readouterr().out
    shown = {line[:16].rstrip(): line[17:] for line in output.splitlines()}
    assert shown["skdnn"] == skdnn.__version__
    assert shown["n_jobs=None"].startswith("threads: ")
    assert shown["compiled kernels"] == "no" or shown["compiled kernels"].startswith("by numba ")
    assert f"numpy: {np.__version__}" in output
    libraries = [info for info in threadpoolctl.threadpool_info() if info["user_api"] == "blas"]
    assert libraries  # NumPy's
    assert all(library["filepath"] in output for library in libraries)
