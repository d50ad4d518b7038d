from runner.evaluation.jq_programs import JqProgramCache


def test_the_cache_of_programs_is_bounded():
    small = JqProgramCache(3)
    for number in range(10):
        assert small.first(f"{number} + 0", "null") == number
    assert small._compiled.cache_info().currsize == 3
