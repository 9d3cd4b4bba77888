"""`app.py plan`: where a model would go and whether it fits, told from its config alone.

Loads no weights and imports no torch. How it is printed is `terminal.plan_report`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from backend.checkpoint.find import find_checkpoint, name_of, repository_of
from backend.conversation import check_range
from backend.errors import BadSetting
from backend.planner.adapters import measure_adapter
from backend.planner.advice import find_ways_out, smallest_usual_machine
from backend.planner.configs import read_shape
from backend.planner.costs import (
    CONTEXT,
    TILES_PER_BATCH,
    Demand,
    Dtype,
    Precision,
    Quantization,
    choose_dtype,
)
from backend.planner.devices import CPU, DISK, GB, Device, Machine, make_gpus
from backend.planner.machine import find_free_disk, find_free_memory, look_around
from backend.planner.plan import Plan, Strategy, plan_devices
from backend.planner.shapes import Shape
from backend.planner.sizes import SIZES, find_size
from terminal.parser import Options, Parser, options
from terminal.plan_report import Row, fit_object, fit_table, plan_object, plan_text
from terminal.report import write_json

AUTO = "auto"
MOST_GB = 10_000
DESCRIPTION = "Tell where a model would go and whether it fits, without loading it."
EPILOG = """\
Without MODEL: the fit table, what each of the seven sizes needs in bf16, int8 and nf4, and the
smallest usual machine that has it; with a machine given, whether it fits there.

strategies:
  balanced  the fullest device as little full as can be (embeddings and head on one device)
  card      layer for layer as the model card's split_model
  single    everything on one device
  cpu       everything on the CPU
  offload   as much as fits on the GPUs, the rest in the CPU's memory or on the disk: slow

1 GB is 1,000,000,000 bytes. int8 and nf4 concern the decoder layers; vision tower, projector,
embeddings and head stay in --dtype.

--json prints one object:
  {"model", "fits", "strategy", "device_map": {module: device}, "devices": [{"name",
   "free_bytes", "weights_bytes", "kv_bytes", "activation_bytes"}], "advice": [TEXT]}
exit status: 0 told, whether it fits or not, 2 bad input

examples:
  app.py plan 38B --gpus 24,24 --quantize nf4
  app.py plan 8B --here
  app.py plan --markdown
"""


@dataclass(frozen=True, slots=True)
class MakePlan:
    """Plan one model, or with no `model` all seven sizes.

    `gpus_gb` and `ram_gb` describe a machine in free GB; with neither it is this one, or for
    the table the usual ones unless `here`.
    """

    model: str | None = None
    gpus_gb: tuple[float, ...] = ()
    ram_gb: float | None = None
    here: bool = False
    dtype: Dtype | None = None  # None: what suits the device
    quantize: Quantization | None = None
    context: int | None = None  # tokens; None: the usual, or the checkpoint's if that is less
    tiles: int = TILES_PER_BATCH
    strategy: Strategy = Strategy.BALANCED
    may_offload: bool = False
    adapter: Path | None = None
    as_json: bool = False
    markdown: bool = False


def read_plan(words: Sequence[str]) -> MakePlan:
    """`app.py plan [MODEL] [--gpus 24,24 | --here] …`; raises `BadSetting` for a bad value."""
    parser = Parser("app.py plan", DESCRIPTION, EPILOG)
    parser.add_argument("model", metavar="MODEL", nargs="?", help="a size, a hub id or a folder")
    _add_machine_options(options(parser, "machine"))
    _add_demand_options(options(parser, "demand"))
    output = options(parser, "output")
    output.switch("--json", "print one object", dest="as_json")
    output.switch("--markdown", "print tables as Markdown")
    chosen = vars(parser.parse_args(words))
    dtype, quantize = chosen.pop("dtype"), chosen.pop("quantize")
    return MakePlan(
        dtype=None if dtype == AUTO else Dtype(dtype),
        quantize=Quantization(quantize) if quantize else None,
        strategy=Strategy(chosen.pop("strategy")),
        **chosen,
    )


def make_plan(command: MakePlan) -> int:
    """Print what is asked for. Returns the exit status 0: a refusal is an answer too.

    Raises `BadInput` and `BadCheckpoint` for a model or a machine that makes no sense.
    """
    if command.model is None:
        print(_tell_table(command))
        return 0
    plan = _plan_one(command, shape_of_model(command.model), find_machine(command))
    ways = tuple(way.text for way in find_ways_out(plan))
    if command.as_json:
        print(write_json(plan_object(plan, ways)))
    else:
        print(plan_text(plan, ways, command.markdown))
    return 0


def shape_of_model(model: str) -> Shape:
    """The shape of a size, a repository of the family, or a folder.

    Only other repositories are asked for their config. Raises `BadCheckpoint`.
    """
    size = find_size(model)
    is_folder = Path(model).is_dir() and repository_of(model) is None
    if size and not is_folder:
        return size
    return read_shape(find_checkpoint(model, only_facts=True), name_of(model))


def find_machine(command: MakePlan) -> Machine:
    """The machine described, or this one; what is not said of it is looked up here."""
    if not command.gpus_gb and command.ram_gb is None:
        return look_around()
    memory = find_free_memory() if command.ram_gb is None else int(command.ram_gb * GB)
    disk = Device(DISK, find_free_disk())
    return Machine(make_gpus(*command.gpus_gb), Device(CPU, memory), disk)


def _plan_one(command: MakePlan, shape: Shape, machine: Machine) -> Plan:
    cpu = machine.cpu if command.strategy is Strategy.CPU or not machine.gpus else None
    memory = cpu.free_bytes if cpu else None
    dtype = command.dtype or choose_dtype(shape, command.quantize, memory)
    demand = _demand(command, shape, Precision(dtype, command.quantize))
    demand = replace(demand, adapter=measure_adapter(command.adapter))
    return plan_devices(demand, machine, command.strategy, command.may_offload)


def _demand(command: MakePlan, shape: Shape, precision: Precision) -> Demand:
    usual = min(CONTEXT, shape.context)
    context = usual if command.context is None else command.context
    return Demand(shape, precision, context, command.tiles)


def _tell_table(command: MakePlan) -> str:
    if command.quantize:
        raise BadSetting("The table shows every precision.", "Leave --quantize out.")
    if command.adapter:
        raise BadSetting("An adapter belongs to one model.", "Name it: app.py plan MODEL.")
    given = command.here or command.gpus_gb or command.ram_gb is not None
    machine = find_machine(command) if given else None
    rows = [_fit(command, shape, machine) for shape in SIZES]
    if command.as_json:
        return write_json(fit_object(rows))
    return fit_table(rows, command.markdown)


def _fit(command: MakePlan, shape: Shape, machine: Machine | None) -> Row:
    """A size in every precision: on the machine, or each on the smallest usual one."""
    plans = []
    for quantize in (None, *Quantization):
        precision = Precision(command.dtype or Dtype.BFLOAT16, quantize)
        demand = _demand(command, shape, precision)
        there = machine or Machine(smallest_usual_machine(demand))
        plans.append(plan_devices(demand, there, command.strategy, command.may_offload))
    return Row(shape, tuple(plans), machine is not None)


def _add_machine_options(machine: Options) -> None:
    which = machine.group.add_mutually_exclusive_group()
    which.add_argument(
        "--gpus", type=_sizes, dest="gpus_gb", default=(), metavar="GB,GB", help="free on each GPU"
    )
    which.add_argument(
        "--here", action="store_true", help="this machine, as it is now (default with MODEL)"
    )
    ram = "free on the CPU (default: this machine's)"
    machine.group.add_argument("--ram", type=_gigabytes, dest="ram_gb", metavar="GB", help=ram)


def _add_demand_options(demand: Options) -> None:
    add = demand.group.add_argument
    dtypes, strategies = [AUTO, *map(str, Dtype)], [*map(str, Strategy)]
    add("--dtype", choices=dtypes, default=AUTO, help="of what is not quantised (default auto)")
    add("--quantize", choices=[*map(str, Quantization)], help="of the decoder layers")
    demand.maybe("--context", int, f"tokens at most, prompt and answer (default {CONTEXT})")
    demand.value("--tiles", TILES_PER_BATCH, "tiles that the vision tower sees at once")
    add("--strategy", choices=strategies, default="balanced", help="(default %(default)s)")
    demand.switch("--offload", "let what does not fit lie off the GPU", dest="may_offload")
    demand.maybe("--adapter", Path, "folder of a LoRA adapter, which counts where it is not merged")


def _gigabytes(word: str) -> float:
    try:
        size = float(word)
    except ValueError as error:
        advice = "Write 24 or 23.5, several GPUs as 24,24."
        raise BadSetting(f"{word!r} is no number of GB.", advice) from error
    check_range("memory in GB", size, 0.001, MOST_GB)
    return size


def _sizes(words: str) -> tuple[float, ...]:
    return tuple(_gigabytes(word) for word in words.split(","))
