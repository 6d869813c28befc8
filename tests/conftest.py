"""The tests run on the CPU, as eight devices, without a display; said here because JAX reads it at its first import. Compiling is most of their time:
the compiler optimises less, and what it made is kept for the other process and the next run."""
import os
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["MPLBACKEND"] = "agg"
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).resolve().parent.parent / ".pytest_cache/jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def pytest_collection_modifyitems(items):
    "Begin with the notebooks that train and compile, so that two processes end together."
    slow = ("20_evaluate", "test_cli", "18_train", "16_generation", "11_tokenizer_training", "10_tokenizer",
            "15_model", "14_attention", "23_playground", "25_cli", "24_reproduce", "interruption", "test_pretokenize")
    items.sort(key=lambda item: next((i for i, name in enumerate(slow) if name in item.nodeid), len(slow)))
