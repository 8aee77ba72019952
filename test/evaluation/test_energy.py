"""The kernel's sensors, as files of their names in a folder of our own."""

from __future__ import annotations

from pathlib import Path

import pytest

from eseg_ros.evaluation.energy import EnergyMeter


def rapl(sysfs: Path, name: str, microjoules: int, span: int = 1_000_000) -> Path:
    counter = sysfs / "class/powercap" / name
    counter.mkdir(parents=True)
    (counter / "max_energy_range_uj").write_text(str(span - 1))
    (counter / "energy_uj").write_text(f"{microjoules}\n")
    return counter / "energy_uj"


def test_the_packages_of_a_pc_are_added_and_their_parts_are_not(tmp_path: Path) -> None:
    packages = [rapl(tmp_path, f"intel-rapl:{number}", 1000) for number in (0, 1)]
    core = rapl(tmp_path, "intel-rapl:0:0", 0)

    with EnergyMeter(tmp_path) as meter:
        packages[0].write_text("401000")
        packages[1].write_text("201000")
        core.write_text("300000")

    assert meter.joules == pytest.approx(0.6)


def test_a_counter_that_ran_over_is_counted_on(tmp_path: Path) -> None:
    counter = rapl(tmp_path, "intel-rapl:0", 900_000)

    with EnergyMeter(tmp_path) as meter:
        counter.write_text("100000")

    assert meter.joules == pytest.approx(0.2)


def test_a_jetson_board_is_its_input_rail_times_the_time(tmp_path: Path) -> None:
    sensor = tmp_path / "bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    sensor.mkdir(parents=True)
    files = {"in1_label": "VDD_CPU", "in2_label": "VDD_IN", "in2_input": "5000", "curr2_input": "2000"}
    for name, value in files.items():
        (sensor / name).write_text(f"{value}\n")

    with EnergyMeter(tmp_path) as meter:
        pass

    assert meter.joules is not None
    assert 0 < meter.joules < 10 * 60


@pytest.mark.parametrize("content", [None, "not a number"])
def test_without_a_readable_sensor_there_is_no_number(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        rapl(tmp_path, "intel-rapl:0", 0).write_text(content)

    with EnergyMeter(tmp_path) as meter:
        pass

    assert meter.joules is None
