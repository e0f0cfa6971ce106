"""What the process is like from which the stages of `stages.run` are forked."""

import os

from stages.engine import warm
from stages.engine.orphans import die_with_parent

die_with_parent()
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
warm.load(*warm.PACKAGES, *warm.OPTIMIZER)
