"""A small data set for searches."""

import pytest

import itnas


@pytest.fixture(scope="module")
def digits():
    return itnas.load_data(itnas.DataSettings("digits", subset=400))
