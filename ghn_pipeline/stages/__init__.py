"""The stages, in one file for each chapter of the paper; each declares itself on import.

A new file needs a line here, in the order of the work.
"""

from ghn_pipeline.stages import (  # noqa: I001
    data as data,
    train as train,
    correlation as correlation,
    search as search,
    finalists as finalists,
    mobile as mobile,
    anytime as anytime,
    memory as memory,
    export as export,
    benchmark as benchmark,
    claims as claims,
)
