"""Emulators: differentiable stand-ins for simulators, and how far to trust them."""

from implicit_infer.fitting.emulators.adversarial import AdversarialEmulation
from implicit_infer.fitting.emulators.check import EmulatorCheck
from implicit_infer.fitting.emulators.emulation import Emulation
from implicit_infer.fitting.emulators.emulator import Emulator, FlowEmulator
from implicit_infer.fitting.emulators.flow import FlowEmulation
from implicit_infer.fitting.emulators.learning import EMULATIONS
from implicit_infer.fitting.emulators.making import emulate
from implicit_infer.fitting.emulators.scored import ScoredEmulation

__all__ = [
    "EMULATIONS",
    "AdversarialEmulation",
    "Emulation",
    "Emulator",
    "EmulatorCheck",
    "FlowEmulation",
    "FlowEmulator",
    "ScoredEmulation",
    "emulate",
]
