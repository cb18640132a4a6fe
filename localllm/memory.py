"""What fits: chooses context and placement of a model for the memory of each device, and what to unload for it.

Pure: integers in, integers out. Reads no file and no system: `devices.py` says what is free, `model_shape.py` what a
model needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NoReturn

import msgspec

from localllm.api import LoadOptions, Notice
from localllm.errors import InvalidRequestError, OutOfMemoryError
from localllm.model_shape import MAX_UBATCH, ModelFacts, compute_bytes, kv_type_named, layer_kv_bytes

MIN_CTX = 512
DEFAULT_SLOTS = 8
DEFAULT_BATCH = 512
CELL_STEP = 256  # llama.cpp pads a context to a multiple of this
PARTIAL_CTX = 4096  # more context than this is not worth a layer that would have to leave the accelerator
RESERVE_DIVISOR = 20  # a twentieth of what is free stays free


class DeviceMemory(msgspec.Struct, frozen=True):
    """A place for weights. `name` is ggml's ("CPU", "CUDA0"); `shares_host`: its memory is main memory (Metal)."""

    name: str
    free_bytes: int
    is_host: bool = False
    shares_host: bool = False

    @property
    def usable_bytes(self) -> int:
        """What a model may take."""
        return max(0, self.free_bytes - self.free_bytes // RESERVE_DIVISOR)


class LoadPlan(msgspec.Struct, frozen=True):
    """How to load a model so that it fits.

    `num_ctx` bounds a request, `num_cells` is the cache of all slots together. `devices` are the accelerators used;
    `num_gpu_layers` counts as llama.cpp does: the output is one more layer, and the last layers go first.
    `bytes_by_device` is weights, cells and scratch together, mapped weights included; `needed_bytes` is their sum.
    """

    num_ctx: int
    num_cells: int
    num_slots: int
    num_batch: int
    kv_layout: Literal["unified", "streams"]
    devices: tuple[str, ...]
    num_gpu_layers: int
    layers_by_device: dict[str, int]
    bytes_by_device: dict[str, int]
    notices: tuple[Notice, ...] = ()

    @property
    def needed_bytes(self) -> int:
        """What the model takes on all devices together."""
        return sum(self.bytes_by_device.values())


class Resident(msgspec.Struct, frozen=True):
    """A loaded model. `last_used` is any clock that grows; only its order counts."""

    name: str
    size_bytes: int
    last_used: float
    busy: bool = False
    pinned: bool = False
    bytes_by_device: dict[str, int] = {}


def plan(
    model: ModelFacts,
    devices: Sequence[DeviceMemory],
    options: LoadOptions | None = None,
    *,
    swa_full: bool = True,
) -> LoadPlan:
    """Choose context and placement. Exactly one device is the host.

    Without `options.num_ctx` the context is the model's own, cut so that cells and scratch take at most half of what
    the weights leave (a Notice says so), but not below 512 tokens. What was asked for is never cut: raises
    OutOfMemoryError with both numbers and, as a hint, the largest that fits. Raises InvalidRequestError for a device
    that is not there or a context that is none.
    """
    options = options or LoadOptions()
    for name in ("kv_type_k", "kv_type_v"):
        kv_type_named(getattr(options, name) or "f16", name)
    if options.num_ctx is not None and options.num_ctx < 1:
        raise InvalidRequestError(f"a context of {options.num_ctx} tokens", hint="1 or more", param="num_ctx")
    host, accelerators = _choose_devices(devices, options)
    return _Planner(model, host, accelerators, options, swa_full=swa_full).plan()


def which_to_evict(loaded: Sequence[Resident], needed_bytes: int, device: str | None = None) -> list[str]:
    """Names of the idle models to unload so that `needed_bytes` more are free, the longest unused first.

    Counts only the bytes on `device` where one is named. Busy and pinned models stay. Empty where nothing is needed,
    and where all idle models together would not suffice: unloading them would help nobody.
    """

    def held(resident: Resident) -> int:
        return resident.size_bytes if device is None else resident.bytes_by_device.get(device, 0)

    idle = sorted(
        (r for r in loaded if not r.busy and not r.pinned and held(r) > 0), key=lambda r: (r.last_used, r.name)
    )
    chosen: list[Resident] = []
    freed = 0
    for resident in idle:
        if freed >= needed_bytes:
            break
        chosen.append(resident)
        freed += held(resident)
    if freed < needed_bytes:
        return []
    for resident in reversed(list(chosen)):  # spare, youngest first, what a later and larger one made unnecessary
        if freed - held(resident) >= needed_bytes:
            chosen.remove(resident)
            freed -= held(resident)
    return [resident.name for resident in chosen]


class _Placement(msgspec.Struct, frozen=True):
    """Where everything goes for one context and one number of accelerated layers."""

    num_gpu_layers: int
    layers: dict[str, int]
    held: dict[str, int]
    host_weights: int


class _Planner:
    """One call of `plan`: its inputs, so that the steps need not pass them on."""

    def __init__(
        self,
        model: ModelFacts,
        host: DeviceMemory,
        accelerators: tuple[DeviceMemory, ...],
        options: LoadOptions,
        *,
        swa_full: bool,
    ) -> None:
        self.model, self.host, self.accelerators, self.options = model, host, accelerators, options
        self.swa_full = swa_full
        self.kv_type_k, self.kv_type_v = options.kv_type_k or "f16", options.kv_type_v or "f16"
        self.num_slots = options.num_slots or DEFAULT_SLOTS
        self.num_batch = options.num_batch or DEFAULT_BATCH
        self.kv_layout: Literal["unified", "streams"] = options.kv_layout or "unified"
        self.notices: list[Notice] = []

    def plan(self) -> LoadPlan:
        wanted = self.options.num_gpu_layers
        if self.accelerators and wanted != 0:
            found = self._on_accelerators()
            if found is not None:
                return found
            self._notice("cpu_fallback", f"{self.model.name} does not fit on {self._names()}; it runs on the CPU")
        return self._on_host()

    # Sizes

    def cells(self, num_ctx: int) -> int:
        """Cells of all slots: one shared pool, or a stream for each slot."""
        padded = num_ctx + -num_ctx % CELL_STEP
        return padded if self.kv_layout == "unified" else padded * self.num_slots

    def kv(self, layer: int, num_cells: int) -> int:
        return layer_kv_bytes(
            self.model,
            layer,
            num_cells,
            num_slots=self.num_slots,
            kv_type=self.kv_type_k,
            kv_type_v=self.kv_type_v,
            swa_full=self.swa_full,
        )

    def scratch(self, num_cells: int) -> int:
        per_stream = num_cells if self.kv_layout == "unified" else num_cells // self.num_slots
        return compute_bytes(
            self.model,
            per_stream,
            num_batch=self.num_batch,
            num_slots=self.num_slots,
            num_ubatch=self.options.num_ubatch or MAX_UBATCH,
            flash_attn=self.options.flash_attn is not False,
        )

    def context_bytes(self, num_ctx: int) -> int:
        """Cells, recurrent state and scratch on one device."""
        cells = self.cells(num_ctx)
        state = self.model.recurrent_bytes * self.num_slots
        return sum(self.kv(layer, cells) for layer in range(self.model.num_layers)) + state + self.scratch(cells)

    # Main memory

    def _on_host(self) -> LoadPlan:
        usable, weights = self.host.usable_bytes, self.model.weight_bytes
        left = usable - weights
        if self.options.use_mmap and left < usable // 4:
            # Mapped weights are read in again as they are used; a quarter of the memory stays for the context.
            left = usable // 4
            self._paged(weights)
        if left <= 0:
            self._refuse(f"{self.model.name} does not fit in memory", weights, usable)
        num_ctx = self._context_on_host(usable - left, left)
        return self._finish(self._place(num_ctx, 0), num_ctx)

    def _context_on_host(self, taken: int, left: int) -> int:
        name, train, asked = self.model.name, self.model.num_ctx_train, self.options.num_ctx
        if asked is not None:
            if self.context_bytes(asked) > left:
                largest = _largest(lambda n: self.context_bytes(n) <= left, asked)
                message = f"a context of {asked} tokens for {name} does not fit in memory"
                self._refuse(message, taken + self.context_bytes(asked), taken + left, largest)
            return asked
        smallest = min(MIN_CTX, train)
        if self.context_bytes(smallest) > left:
            message = f"not even a context of {smallest} tokens for {name} fits in memory"
            self._refuse(message, taken + self.context_bytes(smallest), taken + left)
        return max(smallest, _largest(lambda n: self.context_bytes(n) * 2 <= left, train))

    # Accelerators

    def _on_accelerators(self) -> LoadPlan | None:
        """As much as fits there, or None where nothing does and nothing was asked for."""
        everything, asked = self.model.num_layers + 1, self.options.num_ctx
        wanted = self.options.num_gpu_layers
        most = everything if wanted is None or wanted < 0 else min(wanted, everything)
        num_ctx = asked or min(self.model.num_ctx_train, PARTIAL_CTX)
        layers = most if self._fits(num_ctx, most) else 0
        if wanted is not None and not layers:
            self._refuse_layers(num_ctx, most, everything)
        if layers == everything and asked is None:
            num_ctx = max(num_ctx, self._context_on_accelerators(everything))
        if not layers:
            layers = _largest_count(lambda count: self._fits(num_ctx, count), most)
        if not layers:
            return None
        placement = self._place(num_ctx, layers)
        if layers < most:
            text = f"{layers} of {everything} layers of {self.model.name} fit on {self._names()}; the CPU runs the rest"
            self._notice("partial_offload", text, num_gpu_layers=layers, num_layers=everything)
        if placement.held[self.host.name] > self.host.usable_bytes:
            self._paged(placement.host_weights)
        return self._finish(placement, num_ctx)

    def _context_on_accelerators(self, layers: int) -> int:
        total = sum(device.usable_bytes for device in self.accelerators)
        left = total - self.model.weight_bytes + self.model.input_bytes

        def fits(num_ctx: int) -> bool:
            return self.context_bytes(num_ctx) * 2 <= left and self._fits(num_ctx, layers)

        return _largest(fits, self.model.num_ctx_train)

    def _place(self, num_ctx: int, num_gpu_layers: int) -> _Placement:
        """The last layers on the accelerators, filled in turn; the rest, the input table and the state on the host.

        What fits nowhere lands on the last accelerator: `_fits` sees it.
        """
        model, cells = self.model, self.cells(num_ctx)
        scratch = self.scratch(cells)
        weights = (*model.layer_bytes, model.output_bytes)
        state = model.recurrent_bytes * self.num_slots
        first = len(weights) - num_gpu_layers
        host_weights = sum(weights[:first]) + model.input_bytes
        host_kv = sum(self.kv(layer, cells) for layer in range(min(first, model.num_layers)))
        held = {self.host.name: host_weights + host_kv + scratch + state}
        layers = {self.host.name: first} if first else {}
        queue = list(self.accelerators)
        for index in range(first, len(weights)):
            size = weights[index] + (self.kv(index, cells) if index < model.num_layers else 0)
            while len(queue) > 1 and held.get(queue[0].name, scratch) + size > queue[0].usable_bytes:
                queue.pop(0)
            name = queue[0].name
            held[name] = held.get(name, scratch) + size
            layers[name] = layers.get(name, 0) + 1
        return _Placement(num_gpu_layers, layers, held, host_weights)

    def _fits(self, num_ctx: int, num_gpu_layers: int) -> bool:
        placement = self._place(num_ctx, num_gpu_layers)
        if any(placement.held.get(device.name, 0) > device.usable_bytes for device in self.accelerators):
            return False
        in_ram = placement.held[self.host.name]
        in_ram += sum(placement.held.get(device.name, 0) for device in self.accelerators if device.shares_host)
        if self.options.use_mmap:  # mapped weights need not all be in memory at once
            in_ram -= placement.host_weights
        return in_ram <= self.host.usable_bytes

    # What is said

    def _finish(self, placement: _Placement, num_ctx: int) -> LoadPlan:
        train = self.model.num_ctx_train
        if self.options.num_ctx is None and num_ctx < train:
            text = f"{self.model.name} has {train} tokens of context; {num_ctx} fit in memory"
            self._notice("context_reduced", text, num_ctx=num_ctx, num_ctx_train=train)
        elif num_ctx > train:
            text = f"{self.model.name} was trained for {train} tokens of context, not {num_ctx}; expect worse answers"
            self._notice("context_beyond_training", text, num_ctx=num_ctx, num_ctx_train=train)
        used = tuple(device.name for device in self.accelerators if device.name in placement.layers)
        return LoadPlan(
            num_ctx=num_ctx,
            num_cells=self.cells(num_ctx),
            num_slots=self.num_slots,
            num_batch=self.num_batch,
            kv_layout=self.kv_layout,
            devices=used,
            num_gpu_layers=placement.num_gpu_layers,
            layers_by_device=placement.layers,
            bytes_by_device=placement.held,
            notices=tuple(self.notices),
        )

    def _refuse_layers(self, num_ctx: int, most: int, everything: int) -> NoReturn:
        held = self._place(num_ctx, most).held
        needed = sum(held.get(device.name, 0) for device in self.accelerators)
        available = sum(device.usable_bytes for device in self.accelerators)
        fitting = _largest_count(lambda count: self._fits(num_ctx, count), most)
        what = "all layers" if most == everything else f"{most} layers"
        message = f"{what} of {self.model.name} with {num_ctx} tokens of context do not fit on {self._names()}"
        _out_of_memory(message, needed, available, f"{fitting} layers fit", num_gpu_layers_fit=fitting)

    def _refuse(self, message: str, needed: int, available: int, largest: int | None = None) -> NoReturn:
        hint = "unload other models, or take a smaller model or quantization"
        facts: dict[str, Any] = {}
        if largest is not None:
            facts = {"num_ctx": self.options.num_ctx, "num_ctx_fits": largest}
            hint = f"the largest context that fits is {largest} tokens" if largest else hint
        _out_of_memory(message, needed, available, hint, **facts)

    def _paged(self, weights: int) -> None:
        usable = self.host.usable_bytes
        text = f"{self.model.name} has {_gib(weights)} of weights for {_gib(usable)} of memory; expect it to be slow"
        self._notice("weights_paged", text, weight_bytes=weights, available_bytes=usable)

    def _notice(self, kind: str, message: str, **facts: Any) -> None:
        self.notices.append(Notice(kind, message, facts))

    def _names(self) -> str:
        return ", ".join(device.name for device in self.accelerators)


def _choose_devices(
    devices: Sequence[DeviceMemory], options: LoadOptions
) -> tuple[DeviceMemory, tuple[DeviceMemory, ...]]:
    """The host, and the accelerators that `options.device` allows: none, all, or the one named."""
    hosts = [device for device in devices if device.is_host]
    assert len(hosts) == 1
    accelerators = tuple(device for device in devices if not device.is_host)
    wanted = (options.device or "auto").lower()
    if wanted == "auto":
        return hosts[0], accelerators
    if wanted in ("cpu", hosts[0].name.lower()):
        return hosts[0], ()
    named = tuple(device for device in accelerators if device.name.lower() == wanted)
    if not named:
        known = ", ".join(["cpu", "auto", *(device.name for device in accelerators)])
        raise InvalidRequestError(f"there is no device {options.device}", hint=f"there are {known}", param="device")
    return hosts[0], named


def _largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest context up to `most` that fits: `most` itself, else a multiple of 256, else 0."""
    return most if fits(most) else CELL_STEP * _largest_count(lambda n: fits(n * CELL_STEP), most // CELL_STEP)


def _largest_count(fits: Callable[[int], bool], most: int) -> int:
    """The largest count from 1 to `most` that fits, else 0. What fits, fits for every smaller count."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _out_of_memory(message: str, needed: int, available: int, hint: str | None, **facts: Any) -> NoReturn:
    message = f"{message}: {_gib(needed)} needed, {_gib(available)} available"
    raise OutOfMemoryError(message, hint=hint, needed_bytes=needed, available_bytes=available, **facts)


def _gib(num_bytes: int) -> str:
    """Text with one decimal, by integers only."""
    unit, name = (2**30, "GiB") if num_bytes >= 2**30 else (2**20, "MiB")
    tenths = num_bytes * 10 // unit
    return f"{tenths // 10}.{tenths % 10} {name}"
