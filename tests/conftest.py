"""What holds for all tests: generated examples are the same everywhere, and tiny models need one thread."""

import os

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, which no test has done yet
# No deadline: a busy machine is no mistake of the code.
settings.register_profile("marbury", deadline=None, derandomize=True)
settings.load_profile("marbury")

pytest_plugins = ("databases",)  # fixtures that give an empty SQLite or PostgreSQL
