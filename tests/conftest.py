"The tests run on the CPU, as eight devices, without a display; said here because JAX reads it at its first import."
import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["MPLBACKEND"] = "agg"
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
