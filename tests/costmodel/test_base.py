from costmodel.base import ConstantModel, CostModel
from tests.contracts.cost_model import CostModelContract


class TestConstantModel(CostModelContract):
    def make(self, seed: int = 0) -> CostModel:
        return ConstantModel()
