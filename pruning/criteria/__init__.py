"""How much is each piece worth? Every public function of these modules is a criterion."""
