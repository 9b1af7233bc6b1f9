"""Compiles the libiscsi binding; everything else stands in pyproject.toml."""

from setuptools import setup

setup(cffi_modules=["tcmu_restore/sources/build_libiscsi.py:ffibuilder"])
