from itertools import islice

import pytest

from flowhook.model import Status
from flowhook.model.execution_filter import ALL
from router.storage.execution_list import CHOICE_WINDOW, FIRST_WINDOW, _sizes, as_sql


@pytest.mark.parametrize(
    ("conditions", "largest"),
    [
        (ALL._replace(flow_id="f"), FIRST_WINDOW * 4**5),
        (ALL._replace(flow_id="f", statuses=(Status.PENDING,)), CHOICE_WINDOW),
        (ALL._replace(flow_id="f", min_attempts=2), CHOICE_WINDOW),  # also reads those that have not ended
        (ALL._replace(min_attempts=2), FIRST_WINDOW * 4**5),
    ],
)
def test_windows_stay_so_small_that_an_index_can_be_chosen_for_each_where_there_is_a_choice(conditions, largest):
    assert max(islice(_sizes(as_sql(conditions), 60), 6)) == largest
