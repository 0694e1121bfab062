"""Settings of the process for XLA:CPU: one flag, and malloc's."""

import importlib.metadata
import importlib.util
import os

import jax

from jaxcv.cpu.memory import keep_memory

# For single convolutions on CPU jaxlib calls a library that is several times slower for gradients than XLA's own code.
# These options turn that off for convolutions only. An unknown option aborts compilation, so they are set only for
# versions that were tested.
_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"}
_OPTIONS_KNOWN_TO = ("0.10.", "0.11.", "0.12.")
_FLAG = "--xla_cpu_experimental_ynn_fusion_type=-LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"


def tune() -> list[str]:
    """Prepare this process for training on a CPU; returns what was done, and what it was too late for, as sentences.

    Best called before JAX has computed anything: XLA's flags are read when its backend starts, and memory allocated
    before keeps its small pages. The user's own settings are kept, and nothing is done where JAX uses a GPU or TPU.
    `launch.py` calls it unless given `--no-tune`.
    """
    if _tuned:
        return list(_tuned)
    from jax._src import xla_bridge  # no public function tells whether the backend has started

    started = xla_bridge.backends_are_initialized()
    if (jax.default_backend() if started else _likely_backend()) != "cpu":
        return ["nothing to tune: JAX does not compute on the CPU"]
    flags = os.environ.get("XLA_FLAGS", "")
    if not importlib.metadata.version("jaxlib").startswith(_OPTIONS_KNOWN_TO):
        _tuned.append("XLA's flags unchanged: none is known to help this version")
    elif "ynn_fusion_type" in flags:
        _tuned.append("XLA's flags unchanged: XLA_FLAGS is set")
    elif started:
        _tuned.append(
            "too late for XLA's flags, JAX has started: pass compiler_options=jaxcv.cpu.compiler_options() to jax.jit"
        )
    else:
        os.environ["XLA_FLAGS"] = f"{flags} {_FLAG}".strip()
        _tuned.append(f"XLA_FLAGS {_FLAG}")
    _tuned.append(keep_memory() + (" from now on" if started else ""))
    return list(_tuned)


_tuned: list[str] = []


def compiler_options() -> dict[str, str] | None:
    """Options for `jit(compiler_options=...)` on this backend; None where XLA's defaults are best.

    None too where the user's `XLA_FLAGS` have a fusion setting.
    """
    if jax.default_backend() != "cpu" or "ynn_fusion_type" in os.environ.get("XLA_FLAGS", ""):
        return None
    return dict(_OPTIONS) if importlib.metadata.version("jaxlib").startswith(_OPTIONS_KNOWN_TO) else None


def _likely_backend() -> str:
    """The platform that JAX will use, without starting its backend."""
    asked = jax.config.values["jax_platforms"]
    if asked:
        return str(asked).split(",")[0]
    plugins = [entry.name for entry in importlib.metadata.entry_points(group="jax_plugins")]
    return "accelerator" if plugins or importlib.util.find_spec("libtpu") else "cpu"
