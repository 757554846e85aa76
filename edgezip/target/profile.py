"""The record of one device: what ``targets/*.toml`` may say, and between which limits."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")]
Text = Annotated[str, Field(min_length=1, max_length=400)]
Rate = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
Microseconds = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]
Kilobytes = Annotated[int, Field(ge=1, le=1 << 20)]


class Strict(BaseModel):
    """No key that nobody reads, no change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Cluster(Strict):
    """Cores of one kind; what is None is not known. ``mac_per_cycle``: peak multiply-accumulates a cycle and core, by type;
    ``l2_kb`` of the whole cluster when ``l2_shared``, else of each core."""

    uarch: Text
    count: Annotated[int, Field(ge=1, le=1024)]
    max_mhz: Annotated[int, Field(ge=1, le=20_000)] | None = None
    l1d_kb: Kilobytes | None = None
    l2_kb: Kilobytes | None = None
    l2_shared: bool = True
    role: Literal["big", "little"] = "big"
    mac_per_cycle: dict[Literal["s8", "f32", "f16"], Rate] = {}


class Memory(Strict):
    """10^9 bytes a second of one core, as memcpy, memset and vector loads move them; ``l3_kb`` of the whole chip."""

    copy_gbs: Rate | None = None
    fill_gbs: Rate | None = None
    read_gbs: Rate | None = None
    l3_kb: Kilobytes | None = None


class Deploy(Strict):
    """How to reach the device when the command line does not say."""

    transport: Literal["local", "ssh", "adb"] = "ssh"
    user: str = ""
    port: Annotated[int, Field(ge=1, le=65_535)] = 22
    dest: Text = ".edgezip"


class Emulator(Strict):
    """The emulated CPU with the most instructions among those that have none which the target lacks."""

    qemu: Name
    cpu: Text


class Cost(Strict):
    """Single-thread effective rates, for predictions and choices: 10^9 MACs or bytes a second, microseconds.

    What is None was not measured: depthwise layers then count as other products, elementwise steps as memory traffic, and the
    runtime has its own threshold ``solo_us`` below which a step is not worth a second thread. ``targets calibrate`` fills
    the rates, the overhead and the threads; factors of shapes, caches and the error come from published latencies.
    """

    s8_gmacs: Rate
    f32_gmacs: Rate
    depthwise_s8_gmacs: Rate | None = None
    depthwise_f32_gmacs: Rate | None = None
    square_s8: Share | None = None  # dense 3x3 convolutions of stride 1: their rate as a factor of the products'
    square_f32: Share | None = None
    square_f32_weights: Share | None = None  # Winograd's weights are larger: their bytes as a factor
    first_layer: Share | None = None  # convolutions of a picture: their rate as a factor
    elementwise_gbs: Rate | None = None  # from the second-level cache
    cache_kb: Kilobytes | None = None  # last-level cache: activations that fit go at elementwise_gbs
    stream_gbs: Rate  # weights from memory
    stream_all_gbs: Rate | None = None  # of all threads together
    overhead_us: Microseconds
    two_threads: Annotated[float, Field(ge=0.1, le=2.5)] | None = None  # speed-up of long steps
    solo_us: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    error: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] | None = (
        None  # of a prediction, as a share of it: nine in ten
    )
    source: Text


class BreakEven(Strict):
    """The share of blocks up to which skipping the others is no slower than the dense kernel of an ISA: products of more than
    5 rows, of fewer, and 3x3 convolutions that the dense path may do by Winograd's tiles."""

    rows: Annotated[float, Field(ge=0, le=1)]
    few_rows: Annotated[float, Field(ge=0, le=1)]
    winograd: Annotated[float, Field(ge=0, le=1)]


class Reference(Strict):
    """A published latency of one model on this device, to hold predictions against."""

    runtime: Text
    model: Text
    form: Literal["float32", "float16", "int8"]
    threads: Annotated[int, Field(ge=1, le=1024)]
    ms: Annotated[float, Field(gt=0, le=1e7, allow_inf_nan=False)]
    source: Text


class Target(Strict):
    """One device profile.

    ``layout`` and ``act_sign`` say how programs are packed; ``isa`` lists the runtime's ISA folders for this CPU, best first;
    ``present`` the extensions that every CPU of the kind has, ``absent`` those that a binary for it must not use. ``zig_cpu`` and
    ``gcc_flags`` are the baseline that everything outside of the ISA folders is compiled for. ``mca`` is LLVM's scheduling model
    that comes nearest to the cores.
    """

    name: Name
    aliases: tuple[Name, ...] = ()
    base: Name | None = None
    summary: Text
    sources: Annotated[tuple[Text, ...], Field(min_length=1)]
    arch: Literal["x86_64", "aarch64", "arm", "riscv64"]
    triple: Annotated[str, Field(pattern=r"^[a-z0-9_]+-linux-[a-z0-9.]+$")]
    libc: Literal["musl", "gnu"] = "musl"
    device_libc: Text | None = None  # what the usual system there has, for who links dynamically
    zig_cpu: Annotated[str, Field(pattern=r"^[a-z0-9_+]+$")]  # zig takes underscores: cortex_a72
    gcc: Name
    gcc_flags: tuple[Text, ...] = ()
    isa: Annotated[tuple[Name, ...], Field(min_length=1)]
    present: tuple[Name, ...] = ()
    absent: tuple[Name, ...] = ()
    layout: Literal["k4n16", "k8n16"]
    act_sign: Literal[0, 128]
    clusters: tuple[Cluster, ...] = ()
    memory: Memory = Memory()
    ram_mb: tuple[Annotated[int, Field(ge=1, le=1 << 24)], ...] = ()
    default_threads: Annotated[int, Field(ge=1, le=1024)] = 1
    affinity: Literal["none", "big", "all"] = "big"
    sparse_patterns: tuple[str, ...] = ()  # of zeros that a kernel for this target skips, as `--prune` calls them
    sparse: dict[Name, BreakEven] = {}  # by ISA; one that is not there multiplies by whole panels
    sensor: Literal["none", "rapl", "hwmon", "ina3221", "pmic", "battery"] = "none"
    spin_us: Annotated[int, Field(ge=0, le=1_000_000)] | None = None  # idle workers look for work so long; 0 on batteries
    deploy: Deploy = Deploy()
    emulator: Emulator | None = None
    mca: Text | None = None
    cost: Cost
    reference: tuple[Reference, ...] = ()

    @model_validator(mode="after")
    def _is_of_one_mind(self) -> Self:
        both = sorted({*self.present, *self.isa} & set(self.absent))
        if both:
            raise ValueError(f"absent and present at once: {', '.join(both)}")
        big = sum(cluster.count for cluster in self.clusters if cluster.role == "big")
        if self.affinity == "big" and big and self.default_threads > big:
            raise ValueError(f"default_threads = {self.default_threads}, but the big cluster has {big} cores")
        return self

    def big_cluster(self) -> Cluster | None:
        """The cores that programs run on by default; None when the profile is of no particular chip."""
        return next((cluster for cluster in self.clusters if cluster.role == "big"), None)


class Measured(Strict):
    """A user's file: the coefficients of one device, instead of those of its profile; ``sparse`` of the ISA that it runs."""

    target: Name
    cost: Cost
    sparse: BreakEven | None = None
