"""Which packages a wheel carries; everything else stands in pyproject.toml.

Only `ernie5` is installed. The folders `tokenizers/` and `data_pipelines/` are seen through the links `ernie5/tokenizers` and
`ernie5/data_pipelines` (they have no `__init__.py`, hence the namespace search), so that Hugging Face's package `tokenizers` stays
untouched; `ernie5/recipes` is the same kind of link.
"""

from setuptools import find_namespace_packages, setup

setup(
    packages=find_namespace_packages(include=["ernie5", "ernie5.*"]),
    package_data={"ernie5.recipes": ["*.yaml"], "ernie5.recipes.ablations": ["*.yaml"], "ernie5.recipes.tokenizers": ["*.yaml"]},
    include_package_data=False,
)
