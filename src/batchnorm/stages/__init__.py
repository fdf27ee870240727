"""Operations on a batch: pure functions, in the order in which a call runs them."""
