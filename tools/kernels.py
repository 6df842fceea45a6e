"""Start a kernel once more when it does not answer; as a plugin, for nbval too.

A kernel's ports are chosen first and bound a moment later. When another program takes
one in between, the kernel dies, or it lives and is never heard, until the start times
out. It is rare, and enough to fail a run of an hour.
"""

TRIES = 3


def silent(error):
    """Whether the error says that a kernel did not answer its first question."""
    words = str(error)
    return isinstance(error, RuntimeError) and (
        words.startswith("Kernel didn't respond")
        or words == "Kernel died before replying to kernel_info"
    )


def pytest_configure():
    """Let nbval start its kernels with `patient`."""
    import nbval.kernel

    nbval.kernel.start_new_kernel = patient(nbval.kernel.start_new_kernel)


def patient(start):
    """The same function, called again while a kernel stays silent."""

    def started(*arguments, **options):
        for _ in range(TRIES - 1):
            try:
                return start(*arguments, **options)
            except RuntimeError as error:
                if not silent(error):
                    raise
                print(f"A kernel is started again: {error}", flush=True)
        return start(*arguments, **options)

    return started
