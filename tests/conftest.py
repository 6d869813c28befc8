"The tests run on the CPU, as eight devices, without a display; said here because JAX reads it at its first import. Compiling is most of their time, so the compiler optimises less."
import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["MPLBACKEND"] = "agg"
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0")


def pytest_collection_modifyitems(items):
    "Begin with the notebooks that train and compile, so that two processes end together."
    slow = ("20_evaluate", "test_cli", "18_train", "16_generation", "11_tokenizer_training", "10_tokenizer", "15_model", "14_attention", "23_playground", "25_cli", "24_reproduce", "interruption", "test_pretokenize")
    items.sort(key=lambda item: next((i for i, name in enumerate(slow) if name in item.nodeid), len(slow)))
